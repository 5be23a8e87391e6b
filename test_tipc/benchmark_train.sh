#!/usr/bin/env bash
# Training speed, for every case of the file or one: bash test_tipc/benchmark_train.sh CONFIG benchmark_train [dynamic_bs4_fp32_DP_N1C1]
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc benchmark "$@"

#!/usr/bin/env bash
# Training speed, of every case of the file or one: bash test_tipc/benchmark_train.sh CONFIG benchmark_train [CASE]
# A case is called such as dynamic_bs4_fp32_DP_N1C1. Before it, for data: bash test_tipc/prepare.sh CONFIG benchmark_train
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc benchmark "$@"

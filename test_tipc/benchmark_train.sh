#!/usr/bin/env bash
# Measure training speed of one or all cases of a file: bash test_tipc/benchmark_train.sh CONFIG benchmark_train [CASE]
# CASE: for example dynamic_bs4_fp32_DP_N1C1. First prepare the data: bash test_tipc/prepare.sh CONFIG benchmark_train
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc benchmark "$@"

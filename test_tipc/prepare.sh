#!/usr/bin/env bash
# Prepare data and weights for a TIPC chain: bash test_tipc/prepare.sh CONFIG MODE
# TIPC_DATA=DIR: your own data, a folder with train.txt and val.txt; TIPC_WEIGHTS=FILE: your own weights for whole_infer.
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc prepare "$@"

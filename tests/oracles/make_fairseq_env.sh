#!/bin/sh
# Makes an environment with fairseq 0.12.2, which runs on Python 3.8 and torch 1.12.1, and nothing newer.
# It is an oracle: tests/oracles/test_fairseq.py holds Luthier against it. Downloads about 800 MB.
#
#   tests/oracles/make_fairseq_env.sh FOLDER [PYTHON3.8]
#   LUTHIER_FAIRSEQ=FOLDER pytest tests/oracles
set -eu
folder=$1
python=${2:-python3.8}
"$python" -c 'import sys; assert sys.version_info[:2] == (3, 8), "fairseq 0.12.2 wants Python 3.8"'
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet "torch==1.12.1" "torchaudio==0.12.1" "numpy<1.24" "sacrebleu==2.3.1" "fairseq==0.12.2"
"$folder/bin/python" -c 'import fairseq, torch; print("fairseq", fairseq.__version__, "torch", torch.__version__)'

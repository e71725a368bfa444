#!/bin/bash
# One gjax run over the GPUs of several nodes. Edit the header and the variables, then, from a shared folder:
#   sbatch experiments/launch/slurm.sh [--config.KEY=VALUE ...]
# The processes find each other by themselves. JAX gives process i of a node its GPU i: so start one process a GPU, and let
# each see all of them (no --gpus-per-task, no --gpu-bind).
#SBATCH --job-name=gjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Two minutes before the time limit the processes get SIGTERM (with B: only this shell would): gjax saves and exits with
# 143, and the job is queued again, with the same log. scancel ends this shell as well, and with it the job.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

CONFIG=${CONFIG:-experiments/iaat/cifar10.py:iaat}
WORKDIR=${WORKDIR:-/shared/runs/iaat} # on a file system that all nodes share
VENV=${VENV:-$HOME/venv}              # where gjax is installed, for all nodes

export PATH="$VENV/bin:$PATH"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from the header

# When a process fails, gjax ends the others itself. SLURM must not do it by SIGTERM: that is 143 too, and would queue a
# broken job again and again.
code=0
srun --kill-on-bad-exit=0 gjax train --config="$CONFIG" --workdir="$WORKDIR" "$@" || code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

#!/bin/bash
# Many runs, one GPU each: a job array over a file with one shell command a line.
#   gjax sweep ... --print > commands.txt
#   sbatch --array=1-$(wc -l < commands.txt)%8 experiments/launch/slurm_array.sh commands.txt    (at most 8 at a time)
#SBATCH --job-name=gjax-array
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# At the time limit a run saves and its task is queued again, as in slurm.sh.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

COMMANDS=${1:-commands.txt}
VENV=${VENV:-$HOME/venv} # where gjax is installed

refuse() {
  echo "slurm_array.sh: $1" >&2
  exit 2
}
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || refuse 'this is no array task; submit it with sbatch --array=1-N'
[ -f "$COMMANDS" ] || refuse "there is no file $COMMANDS; write it with gjax sweep --print"
command=$(awk -v n="$SLURM_ARRAY_TASK_ID" 'NR == n' "$COMMANDS")
[ -n "$command" ] || refuse "line $SLURM_ARRAY_TASK_ID of $COMMANDS is missing or empty; it has $(wc -l < "$COMMANDS")"

export PATH="$VENV/bin:$PATH"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun no longer takes it from the header

# SIGTERM comes to the inner shell too: its trap makes it wait for the command's own end, and for its exit code.
echo "$command"
code=0
srun --kill-on-bad-exit=0 bash -c "trap : TERM; $command" || code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" # by SLURM_JOB_ID it could be the whole array
fi
exit "$code"

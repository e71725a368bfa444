#!/bin/bash
# One gjax run on a Cloud TPU VM slice, from your own machine: every worker is told the same. Edit the variables, then
#   experiments/launch/tpu_vm.sh install                       this checkout's HEAD and its dependencies
#   experiments/launch/tpu_vm.sh run [--config.KEY=VALUE ...]  starts or resumes the run; it outlives the connection
#   experiments/launch/tpu_vm.sh status                        where it runs, and each log's last line
#   experiments/launch/tpu_vm.sh logs [-f]                     the end of worker 0's log; of another's with WORKER=1
#   experiments/launch/tpu_vm.sh stop                          saves and ends the run
# A slice that was taken away is gone with its disks: create it again, install, run.
set -euo pipefail

NAME=${TPU_NAME:-my-slice}
ZONE=${ZONE:-us-central2-b}
PROJECT=${PROJECT:-} # empty: gcloud's own
CONFIG=${CONFIG:-experiments/iaat/cifar10.py:iaat}
WORKDIR=${WORKDIR:-/mnt/shared/runs/iaat} # on a file system that all workers mount
PYTHON=${PYTHON:-python3.11}              # on the workers; 3.11 or newer
WORKER=${WORKER:-0}                       # whose log to show

PLACE=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})

remote() { # WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker="$1" --command="$2"
}

ENTER='cd gjax-run/checkout || exit'
OURS="--pidfile ../pid --full '[g]jax train'" # the process that `run` noted, if it is still a gjax

action=${1:-}
[ $# -eq 0 ] || shift
case $action in
  install)
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    git -C "$(dirname "$0")" bundle create -q "$folder/gjax.bundle" HEAD # with .git, so that run.json names the commit
    gcloud compute tpus tpu-vm scp "$folder/gjax.bundle" "$NAME:gjax.bundle" "${PLACE[@]}" --worker=all
    remote all "set -e
      mkdir -p gjax-run && cd gjax-run
      rm -rf checkout && git -c advice.detachedHead=false clone -q ../gjax.bundle checkout
      $PYTHON -m venv venv || { sudo apt-get -q update; sudo apt-get -q -y install $PYTHON-venv; $PYTHON -m venv venv; }
      venv/bin/pip install -q -e 'checkout[tpu]'"
    ;;
  run)
    printf -v command '%q ' ../venv/bin/gjax train "--config=$CONFIG" "--workdir=$WORKDIR" "$@"
    remote all "$ENTER
      if pgrep $OURS > /dev/null 2>&1; then echo already running >&2; exit 1; fi
      setsid $command>> ../log 2>&1 < /dev/null & echo \$! > ../pid"
    ;;
  status)
    remote all "$ENTER
      if pgrep $OURS > /dev/null 2>&1; then state=running; else state='not running'; fi
      echo \$(hostname): \$state: \$(tail -n 1 ../log)"
    ;;
  logs)
    (($#)) || set -- -n 50
    printf -v options '%q ' "$@"
    remote "$WORKER" "$ENTER; tail $options../log"
    ;;
  stop)
    remote all "$ENTER
      if pkill -TERM $OURS 2> /dev/null; then tail --pid=\$(cat ../pid) -s 0.2 -f /dev/null; fi
      echo \$(hostname): stopped: \$(tail -n 1 ../log)"
    ;;
  *)
    echo "tpu_vm.sh: '$action' is not a command; allowed: install, run, status, logs, stop" >&2
    exit 2
    ;;
esac

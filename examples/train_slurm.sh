#!/usr/bin/env bash
# Train on a cluster that runs slurm, one process a GPU. When the time is up the job saves and queues itself again,
# until the training is done:
#
#     sbatch examples/train_slurm.sh options/train_GGKMNet_DPDD.yml [more words for `basicsr train`]
#
# Start it in the folder that is to hold experiments/, on a file system that all nodes share. Set nodes, GPUs, cores
# and hours to what your cluster has; ntasks-per-node is the number of GPUs of a node.
#SBATCH --job-name=ggkmnet
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

if [ $# -lt 1 ]; then
    echo 'usage: sbatch train_slurm.sh OPTION_FILE [words for basicsr train ...]' >&2
    exit 2
fi
options=$1
shift
export OMP_NUM_THREADS=1
# two jobs on one node must not meet at the same port
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))

# B: in --signal sends the signal to this shell only, and srun forwards it
stopped=no
trap 'stopped=yes; kill -TERM "$step"' TERM

srun --kill-on-bad-exit=1 basicsr train -opt "$options" --launcher slurm --auto_resume "$@" &
step=$!
wait "$step"
status=$?
if [ "$stopped" = yes ]; then
    wait "$step" # the signal ended the first wait; this one lasts until everything is saved
    status=$?
    if [ "$status" -ne 0 ]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit
    fi
fi
exit "$status"

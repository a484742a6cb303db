#!/bin/bash
# A stand-in for nvidia-cuda-mps-control, which needs a GPU: a daemon in the directory that the
# environment names, which lists the processes that have the same directory as its clients.
# FAKE_MPS: "refuses" does not start, "hangs" does not quit.
pipe=$CUDA_MPS_PIPE_DIRECTORY
case $1 in
-d)
    if [ "$FAKE_MPS" = refuses ]; then
        echo "Cannot find MPS control daemon process"
        exit 1
    fi
    setsid "$0" daemon </dev/null &>/dev/null &
    until [ -e "$pipe/control" ]; do sleep 0.01; done
    ;;
daemon)
    echo $$ >"$pipe/control"
    until [ -e "$pipe/quit" ] && [ "$FAKE_MPS" != hangs ]; do sleep 0.02; done
    ;;
*)
    read -r command
    case $command in
    get_server_list) cat "$pipe/control" ;;
    get_client_list*) grep -lza "^CUDA_MPS_PIPE_DIRECTORY=$pipe$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 ;;
    quit*) touch "$pipe/quit" ;;
    esac
    ;;
esac

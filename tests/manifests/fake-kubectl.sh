#!/bin/sh
# A cluster with one Deployment, for the tests of scripts: what it is asked for is in $FAKE/calls, and files there say how it
# answers. If $FAKE/reached is a pipe, whoever reads it is told that the script waits.
call=$*
echo "$call" >> "$FAKE/calls"

# Tells once, and then waits like the real one.
wait_if_told() {
    [ -p "$FAKE/reached" ] && echo > "$FAKE/reached" && exec sleep 60
}

case $call in
    *"get horizontalpodautoscalers"*) cat "$FAKE/autoscalers" ;;
    *"get deployment"*last-applied*) cat "$FAKE/manifest" ;;
    *"get deployment"*readyReplicas*) echo "$(cat "$FAKE/replicas") $(cat "$FAKE/replicas")" ;;
    *"get deployment"*spec.replicas*) cat "$FAKE/replicas" ;;
    *"get deployment missing"*) exit 1 ;;
    *"scale deployment"*) echo "${call##*--replicas=}" > "$FAKE/replicas" ;;
    *"patch --local"*) echo "${call#*replicas\":}" ;;
    *"patch deployment"*) echo "${call#*replicas\":}" | tr -d '}' > "$FAKE/replicas" ;;
    *"apply set-last-applied"*) cat > "$FAKE/last" ;;
    *"apply -f"*) sed 's/}.*//' > "$FAKE/replicas" ;;
    *"rollout status"*) wait_if_told; [ ! -e "$FAKE/stuck" ] ;;
    *"create -f"*) [ ! -e "$FAKE/taken" ] && cat > "$FAKE/pod.yaml" ;;
    *"get pod "*) wait_if_told; cat "$FAKE/phase"; echo Succeeded > "$FAKE/phase" ;;
    *"logs "*) cat "$FAKE/result" ;;
esac

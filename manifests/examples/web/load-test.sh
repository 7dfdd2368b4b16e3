#!/usr/bin/env bash
# Loads a Service from within the cluster for a while, and shows how many pods its Deployment has before, during and
# after.
set -euo pipefail

usage() {
    cat << 'USAGE'
usage: load-test.sh [OPTIONS] SERVICE

  -n, --namespace NAMESPACE  that of kubectl's context by default
  -d, --duration SECONDS     how long there is load, 1 to 900 (120)
  -c, --concurrency N        how many ask at the same time, 1 to 64 (8)
      --port PORT            of the Service (8000)
      --path PATH            what is asked for (/)
      --deployment NAME      whose pods are counted (the name of the Service)
      --after SECONDS        how long they are counted afterwards, 0 to 900 (0): an autoscaler that waits
                             300 seconds before it scales down shows nothing earlier
      --every SECONDS        how often they are counted, 1 to 60 (5)
      --image IMAGE          one with a busybox (busybox:1.36)
  -h, --help

The load comes from one pod, load-test, which has a core at most. It ends with this script, however that ends, and after
its duration in any case. KUBECTL names another kubectl, such as "k3s kubectl".

Exit codes: 0 done, 64 the command line is wrong, 69 no load, or not one answer, 75 another load-test is at work,
78 kubectl, the Service or the Deployment is missing, 130 and 143 interrupted.
USAGE
}

namespace='' duration=120 concurrency=8 port=8000 path=/ service='' deployment='' after=0 every=5 image=busybox:1.36
pod=load-test
read -r -a kubectl <<< "${KUBECTL:-kubectl}"

main() {
    read_arguments "$@"
    command -v "${kubectl[0]}" > /dev/null || fail 78 "${kubectl[0]} is not installed, or KUBECTL names another one"
    k get service "$service" -o name > /dev/null \
        || fail 78 "there is no Service $service: look at 'kubectl get services'"
    k get deployment "$deployment" -o name > /dev/null \
        || fail 78 "there is no Deployment $deployment: give its --deployment"
    started=$SECONDS
    echo "seconds  replicas (ready)"
    show before

    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap end_load EXIT
    manifest | k create -f - > /dev/null \
        || { trap - EXIT && fail 75 "the pod $pod cannot be made. If it is another's: kubectl delete pod $pod"; }
    until has_ended; do
        pause
        show during
    done
    result=$(k logs "$pod" | tail -n 1) || result=''
    k delete pod "$pod" --ignore-not-found --now --wait=false > /dev/null
    trap - EXIT

    local until=$((SECONDS + after))
    show after
    while [ "$SECONDS" -lt "$until" ]; do
        pause
        show after
    done
    report
}

k() {
    "${kubectl[@]}" ${namespace:+--namespace "$namespace"} "$@"
}

show() {
    local counts ready
    counts=$(k get deployment "$deployment" -o 'jsonpath={.spec.replicas} {.status.readyReplicas}') || counts='? ?'
    ready=${counts#* }
    printf '%7d  %s (%s)  %s\n' $((SECONDS - started)) "${counts%% *}" "${ready:-0}" "$1"
}

# In the background, so that a signal need not wait for it.
pause() {
    sleep "$every" &
    wait $!
}

# A pod that is gone has ended as well.
has_ended() {
    local phase
    phase=$(k get pod "$pod" -o 'jsonpath={.status.phase}') || return 0
    case $phase in
        Succeeded | Failed) return 0 ;;
        Pending) [ $((SECONDS - started)) -lt $((duration + 60)) ] || fail 69 "the pod $pod did not start" ;;
    esac
    return 1
}

report() {
    [[ $result =~ ^([0-9]+)\ answers,\ ([0-9]+)\ failures$ ]] || fail 69 "the load ended without a result"
    echo "$result in $duration seconds, $concurrency at a time"
    [ "${BASH_REMATCH[1]}" -gt 0 ] || fail 69 "nothing answered at $service:$port$path"
}

end_load() {
    local code=$?
    trap '' INT TERM
    k delete pod "$pod" --ignore-not-found --now --wait=false > /dev/null \
        || echo "load-test: the load goes on for $duration seconds at most: kubectl delete pod $pod" >&2
    exit "$code"
}

# Each of the workers asks until the time is over and then says how it went; they are added up at the end.
manifest() {
    cat << MANIFEST
apiVersion: v1
kind: Pod
metadata:
  name: $pod
  labels: {app.kubernetes.io/name: $pod}
spec:
  restartPolicy: Never
  activeDeadlineSeconds: $((duration + 60))
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: $pod
    image: $image
    env:
    - {name: URL, value: "http://$service:$port$path"}
    - {name: DURATION, value: "$duration"}
    - {name: CONCURRENCY, value: "$concurrency"}
    command:
    - sh
    - -c
    - |
      end=\$((\$(date +%s) + DURATION))
      ask() {
        answers=0 failures=0
        while [ "\$(date +%s)" -lt "\$end" ]; do
          if wget -q -O /dev/null "\$URL"; then
            answers=\$((answers + 1))
          else
            failures=\$((failures + 1))
            sleep 1
          fi
        done 2> /dev/null
        echo "\$answers \$failures"
      }
      for worker in \$(seq "\$CONCURRENCY"); do ask & done |
        awk '{ answers += \$1; failures += \$2 } END { print answers + 0 " answers, " failures + 0 " failures" }'
    resources:
      requests: {cpu: 100m, memory: 32Mi, ephemeral-storage: 1Mi}
      limits: {cpu: "1", memory: 256Mi, ephemeral-storage: 16Mi}
    securityContext:
      runAsNonRoot: true
      runAsUser: 1000
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
      seccompProfile:
        type: RuntimeDefault
MANIFEST
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            -n | --namespace) value "$@" && namespace=$2 && shift ;;
            -d | --duration) value "$@" && duration=$2 && shift ;;
            -c | --concurrency) value "$@" && concurrency=$2 && shift ;;
            --port) value "$@" && port=$2 && shift ;;
            --path) value "$@" && path=$2 && shift ;;
            --deployment) value "$@" && deployment=$2 && shift ;;
            --after) value "$@" && after=$2 && shift ;;
            --every) value "$@" && every=$2 && shift ;;
            --image) value "$@" && image=$2 && shift ;;
            -*) wrong "there is no option $1" ;;
            *) [ -z "$service" ] || wrong "one Service, not $service and $1" && service=$1 ;;
        esac
        shift
    done
    [ -n "$service" ] || wrong "which Service?"
    deployment=${deployment:-$service}
    name "$service"
    name "$deployment"
    within --duration "$duration" 1 900
    within --concurrency "$concurrency" 1 64
    within --port "$port" 1 65535
    within --after "$after" 0 900
    within --every "$every" 1 60
    [[ $path =~ ^/[A-Za-z0-9._~/?=\&%+-]*$ ]] || wrong "--path is /, letters, digits and ._~/?=&%+-, not $path"
    [[ $image =~ ^[A-Za-z0-9._:/@-]+$ ]] || wrong "$image is no name of an image"
}

name() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || wrong "$1 is no name"
}

within() {
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,4})$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
        wrong "$1 is a number from $3 to $4, not $2"
    fi
}

value() {
    [ $# -ge 2 ] || wrong "$1 wants a value"
}

wrong() {
    echo "load-test: $1" >&2
    usage >&2
    exit 64
}

fail() {
    echo "load-test: $2" >&2
    exit "$1"
}

main "$@"

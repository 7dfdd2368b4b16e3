#!/usr/bin/env bash
# Shows three ways to say how many pods a Deployment has: scale, patch, apply. Afterwards it has as many as before.
set -euo pipefail

usage() {
    cat << 'USAGE'
usage: manual-scaling.sh [-n NAMESPACE] [--by PODS] [--timeout DURATION] DEPLOYMENT

  -n, --namespace NAMESPACE  that of kubectl's context by default
      --by PODS              how many more each time, 1 to 10 (1)
      --timeout DURATION     for the pods to be ready each time (120s)
  -h, --help

A Deployment that has a HorizontalPodAutoscaler is refused: what is set by hand, it sets back. KUBECTL names another
kubectl, such as "k3s kubectl".

Exit codes: 0 done, 64 the command line is wrong, 69 pods were not ready in time, 77 an autoscaler is at work,
78 kubectl or the Deployment is missing, 130 and 143 interrupted. It goes back to the former number in any case.
USAGE
}

namespace='' by=1 timeout=120s deployment=''
read -r -a kubectl <<< "${KUBECTL:-kubectl}"

main() {
    read_arguments "$@"
    command -v "${kubectl[0]}" > /dev/null || fail 78 "${kubectl[0]} is not installed, or KUBECTL names another one"
    before=$(k get deployment "$deployment" -o 'jsonpath={.spec.replicas}') \
        || fail 78 "there is no Deployment $deployment to scale: look at 'kubectl get deployments'"
    refuse_to_fight
    manifest=$(k get deployment "$deployment" -o "jsonpath=$applied")
    echo "$deployment has $before replicas"
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap back EXIT

    step "scale: one command, and nothing else changes" $((before + by))
    k scale deployment "$deployment" --replicas="$wanted"
    watch

    step "patch: the same field, with others if you like" $((before + 2 * by))
    k patch deployment "$deployment" --patch "{\"spec\":{\"replicas\":$wanted}}"
    watch

    if [ -z "$manifest" ]; then
        printf '\n== apply is left out: %s was not made by kubectl apply\n' "$deployment"
        return
    fi
    step "apply: your manifest, with the number in it" $((before + by))
    k patch --local -f - --patch "{\"spec\":{\"replicas\":$wanted}}" -o json <<< "$manifest" | k apply -f -
    watch
}

# Where `kubectl apply` keeps what was applied last.
applied='{.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}'

k() {
    "${kubectl[@]}" ${namespace:+--namespace "$namespace"} "$@"
}

refuse_to_fight() {
    local of autoscaler
    of='{range .items[*]}{.spec.scaleTargetRef.kind}/{.spec.scaleTargetRef.name} {.metadata.name}{"\n"}{end}'
    autoscaler=$(k get horizontalpodautoscalers -o "jsonpath=$of" \
        | awk -v it="Deployment/$deployment" '$1 == it { print $2 }') \
        || fail 78 "nobody can tell whether an autoscaler decides how many replicas $deployment has"
    [ -z "$autoscaler" ] || fail 77 "the autoscaler $autoscaler decides how many replicas $deployment has, and would set
back what is set here. Change its bounds, or delete it for the time being: kubectl delete hpa $autoscaler"
}

step() {
    wanted=$2
    printf '\n== %s: %s replicas\n' "$1" "$wanted"
}

watch() {
    k rollout status deployment "$deployment" --timeout="$timeout" \
        || fail 69 "not all of $wanted pods were ready within $timeout: look at 'kubectl describe pods'"
    k get deployment "$deployment" -o wide
}

# What was applied is put back as well: a manifest without a number, applied after one with it, sets the number to 1.
back() {
    local code=$?
    trap '' INT TERM
    printf '\n== back: %s replicas\n' "$before"
    if [ -n "$manifest" ]; then
        k apply set-last-applied -f - <<< "$manifest" || true
    fi
    k scale deployment "$deployment" --replicas="$before" \
        || echo "manual-scaling: it did not go back: kubectl scale deployment $deployment --replicas=$before" >&2
    exit "$code"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit 0 ;;
            -n | --namespace) value "$@" && namespace=$2 && shift ;;
            --by) value "$@" && by=$2 && shift ;;
            --timeout) value "$@" && timeout=$2 && shift ;;
            -*) wrong "there is no option $1" ;;
            *) [ -z "$deployment" ] || wrong "one Deployment, not $deployment and $1" && deployment=$1 ;;
        esac
        shift
    done
    [ -n "$deployment" ] || wrong "which Deployment?"
    [[ $deployment =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || wrong "$deployment is no name of a Deployment"
    [[ $by =~ ^([1-9]|10)$ ]] || wrong "--by is a number from 1 to 10, not $by"
}

value() {
    [ $# -ge 2 ] || wrong "$1 wants a value"
}

wrong() {
    echo "manual-scaling: $1" >&2
    usage >&2
    exit 64
}

fail() {
    echo "manual-scaling: $2" >&2
    exit "$1"
}

main "$@"

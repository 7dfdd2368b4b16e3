{{/*
When a pool is to be frozen and thawed, as cron has it: {"freeze": […], "thaw": […]}, each entry with `time` (hhmm),
`schedule` and `deadline`, the seconds within which it may still begin when the cluster missed it.

A window begins on each of its weekdays (1 is Monday, 7 and 0 are Sunday) and ends on the next day if its end is the
earlier of its times. The windows of a pool are one set of times: where they touch or overlap, neither ends the other.
*/}}
{{- define "agent-pool.windows" -}}
{{- $windows := list }}
{{- range .freeze_schedules }}
{{- $from := include "agent-pool.minutes" .from_time | int }}
{{- $to := include "agent-pool.minutes" .to_time | int }}
{{- if eq $from $to }}
{{- fail (printf "pool %s is frozen from %s to %s: say 00:00 to 24:00 for a day" $.pool_id .from_time .to_time) }}
{{- end }}
{{- if lt $to $from }}
{{- $to = add $to 1440 | int }}
{{- end }}
{{- range .weekdays }}
{{- $midnight := mul 1440 (mod (add . 6) 7) }}
{{- $windows = append $windows (dict "from" (add $midnight $from) "to" (add $midnight $to)) }}
{{- end }}
{{- end }}
{{- /* A beginning counts where nothing was frozen the minute before, and an end where nothing is from then on. */}}
{{- $begins := dict }}
{{- $ends := dict }}
{{- range $windows }}
{{- if not (include "agent-pool.covered" (dict "minute" (mod (add .from 10079) 10080) "windows" $windows)) }}
{{- $_ := set $begins (printf "%05d" .from) .from }}
{{- end }}
{{- $end := mod .to 10080 }}
{{- if not (include "agent-pool.covered" (dict "minute" $end "windows" $windows)) }}
{{- $_ := set $ends (printf "%05d" $end) $end }}
{{- end }}
{{- end }}
{{- if and $windows (not $begins) }}
{{- fail (printf "pool %s is frozen all week: give it max_replicas 0" .pool_id) }}
{{- end }}
{{- $begins = values $begins }}
{{- $ends = values $ends }}
{{- $freeze := include "agent-pool.grouped" (dict "pool" .pool_id "at" $begins "until" $ends) | fromJsonArray }}
{{- $thaw := include "agent-pool.grouped" (dict "pool" .pool_id "at" $ends "until" $begins) | fromJsonArray }}
{{- dict "freeze" $freeze "thaw" $thaw | toJson }}
{{- end }}

{{/* The minutes since midnight. */}}
{{- define "agent-pool.minutes" -}}
{{- $parts := splitList ":" . }}
{{- add (mul 60 (trimPrefix "0" (first $parts) | int)) (trimPrefix "0" (last $parts) | int) }}
{{- end }}

{{/* Not empty where the minute of the week is within a window, which may reach into the next week. */}}
{{- define "agent-pool.covered" -}}
{{- range $window := .windows }}
{{- range list $.minute (add $.minute 10080) }}
{{- if and (ge (int .) (int $window.from)) (lt (int .) (int $window.to)) }}yes{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The moments `at` as entries, one for each time of day. The deadline of each is before the next of the moments `until`.
*/}}
{{- define "agent-pool.grouped" -}}
{{- $days := dict }}
{{- $lengths := dict }}
{{- range $at := .at }}
{{- $length := 10080 }}
{{- range $.until }}
{{- $length = min $length (mod (add (sub . $at) 10080) 10080) }}
{{- end }}
{{- if lt $length 10 }}
{{- fail (printf "pool %s would be frozen or thawed for %d minutes: it takes ten to be sure of it" $.pool $length) }}
{{- end }}
{{- $time := printf "%02d%02d" (div (mod $at 1440) 60) (mod $at 60) }}
{{- $day := mod (add (div $at 1440) 1) 7 | toString }}
{{- $_ := set $days $time (append (get $days $time | default list) $day) }}
{{- $_ := set $lengths $time (min $length (get $lengths $time | default 10080)) }}
{{- end }}
{{- $entries := list }}
{{- range $time := keys $days | sortAlpha }}
{{- $on := get $days $time | sortAlpha | join "," }}
{{- $on = eq $on "0,1,2,3,4,5,6" | ternary "*" $on }}
{{- $hour := substr 0 2 $time | trimPrefix "0" | int }}
{{- $minute := substr 2 4 $time | trimPrefix "0" | int }}
{{- $schedule := printf "%d %d * * %s" $minute $hour $on }}
{{- /* A job has five minutes to be done: what begins later than this could end in the other's time. */}}
{{- $deadline := sub (mul 60 (get $lengths $time)) 300 }}
{{- $entries = append $entries (dict "time" $time "schedule" $schedule "deadline" $deadline) }}
{{- end }}
{{- toJson $entries }}
{{- end }}

use crate::object::objects;

const SERVICE_MONITOR: &str = "
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: m, labels: {release: prometheus}}
spec:
  selector:
    matchLabels: {app: a}
    matchExpressions: [{key: tier, operator: In, values: [a]}]
  namespaceSelector: {matchNames: [b]}
  endpoints:
  - port: metrics
    path: /metrics
    scheme: https
    interval: 1m30s
    scrapeTimeout: 10s
    tlsConfig: {insecureSkipVerify: true, ca: {configMap: {name: c, key: ca.crt}}}
    relabelings: [{sourceLabels: [__meta_kubernetes_pod_name], targetLabel: pod, action: Replace}]
";

const POD_MONITOR: &str = "
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: m}
spec:
  selector: {matchLabels: {app: a}}
  podMetricsEndpoints:
  - {port: metrics, honorLabels: true}
";

const PROMETHEUS_RULE: &str = "
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: r}
spec:
  groups:
  - name: g
    interval: 30s
    rules:
    - {record: 'a:b', expr: sum(a), labels: {job: j}}
    - {alert: Down, expr: up == 0, for: 5m, keep_firing_for: 1m, annotations: {summary: s}}
";

const SCALED_OBJECT: &str = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: s, annotations: {autoscaling.keda.sh/paused: 'true'}}
spec:
  scaleTargetRef: {name: d}
  pollingInterval: 30
  cooldownPeriod: 30
  minReplicaCount: 1
  maxReplicaCount: 5
  idleReplicaCount: 0
  fallback: {failureThreshold: 3, replicas: 1, behavior: currentReplicas}
  advanced:
    restoreToOriginalReplicaCount: false
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          selectPolicy: Max
          policies: [{type: Pods, value: 1, periodSeconds: 30}]
  triggers:
  - type: metrics-api
    metricType: AverageValue
    metadata: {url: 'http://a/b', valueLocation: pending, targetValue: '1', format: json}
    authenticationRef: {name: t}
  - type: prometheus
    metadata: {serverAddress: 'http://p:9090', query: sum(a), threshold: '1.5'}
  - type: cpu
    metricType: Utilization
    metadata: {value: '70'}
";

const TRIGGER_AUTHENTICATION: &str = "
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: t}
spec:
  secretTargetRef: [{parameter: token, name: s, key: k}]
";

const MINI_CLUSTER: &str = "
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: m}
spec:
  size: 2
  minSize: 1
  maxSize: 4
  interactive: true
  flux: {container: {image: view, mountPath: /mnt/flux}, scheduler: {queuePolicy: fcfs}}
  pod: {labels: {a: b}, serviceAccountName: s}
  containers:
  - image: app
    runFlux: true
    command: sleep infinity
    commands: {pre: 'true'}
    resources: {requests: {cpu: 1, memory: 1Gi}}
    volumes: {config: {path: /etc/app, configMapName: c, items: {a: a}}}
  - name: fetch
    image: fetch-init
    noWrapEntrypoint: true
    environment: {A: b}
    securityContext: {runAsNonRoot: true, capabilities: {drop: [ALL]}}
";

const ADAPTER: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: adapter-config}
data:
  config.yaml: |
    rules:
    - seriesQuery: 'depth{namespace!=\"\",pod!=\"\"}'
      resources:
        overrides:
          namespace: {resource: namespace}
          pod: {resource: pod}
      name: {matches: depth, as: queue_depth}
      metricsQuery: avg_over_time(depth{<<.LabelMatchers>>}[2m])
    - seriesQuery: other
      resources: {template: <<.Resource>>}
      seriesFilters: [{isNot: ^x}]
      metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
";

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {config.yaml: 'anything: else', other: text}
";

fn answer(yaml: &str) -> super::Result {
    let found = objects(yaml);
    let [object] = &found[..] else {
        panic!("{} objects", found.len());
    };
    super::check(object)
}

/// Each line is `before => after | words`: with `after` in the place of `before` the object is refused in these words.
#[track_caller]
fn refuses(yaml: &str, table: &str) {
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let (before, other) = line.split_once("=> ").unwrap();
        let (after, words) = other.split_once("| ").unwrap();
        let [before, after, words] =
            [before, after, words].map(|text| text.trim().replace("\\n", "\n"));
        assert_eq!(yaml.matches(&before).count(), 1, "{line}");
        let error = answer(&yaml.replace(&before, &after)).expect_err(line);
        assert!(error.contains(&words), "{error}");
    }
}

#[test]
fn what_operators_take_is_taken() {
    let taken = [
        SERVICE_MONITOR,
        POD_MONITOR,
        PROMETHEUS_RULE,
        SCALED_OBJECT,
        TRIGGER_AUTHENTICATION,
        MINI_CLUSTER,
        ADAPTER,
        CONFIG_MAP,
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n}}",
    ];
    for yaml in taken {
        assert_eq!(answer(yaml), Ok(()), "{yaml}");
    }
}

#[test]
fn a_kind_that_nobody_knows_is_refused_by_its_name() {
    let table = "
        kind: ScaledObject => kind: ScaledObjekt | nothing is known here of ScaledObjekt in keda.sh
        v1alpha1           => v1                 | nothing is known here of ScaledObject in keda.sh/v1
    ";
    refuses(SCALED_OBJECT, table);
    refuses(
        MINI_CLUSTER,
        "v1alpha2 => v1alpha1 | nothing is known here of MiniCluster",
    );
}

#[test]
fn a_misspelt_service_monitor_is_refused() {
    let table = r"
        endpoints:           => endpoint:                 | unknown field `endpoint`
        - port: metrics      => - porte: metrics          | unknown field `porte`
        - port: metrics      => - honorLabels: true       | an endpoint with 0 ports
        - port: metrics      => - port: a\n    targetPort: 9090 | an endpoint with 2 ports
        - port: metrics      => - portNumber: 9090        | only a PodMonitor
        matchNames           => names                     | unknown field `names`
        scheme: https        => scheme: ftp               | unknown variant `ftp`
        interval: 1m30s      => interval: 30s1m           | is no duration
        interval: 1m30s      => interval: 30              | expected a string
        interval: 1m30s      => interval: 500ms           | takes longer than its interval
        action: Replace      => action: swap              | there is no action swap
        targetLabel: pod,    =>                           | replace without a targetLabel
        operator: In         => operator: Exists          | do not fit Exists
        release: prometheus  => release: 1                | expected a string
    ";
    refuses(SERVICE_MONITOR, table);
}

#[test]
fn what_scrapes_or_asks_nothing_is_refused() {
    for (yaml, list) in [(SERVICE_MONITOR, "endpoints"), (SCALED_OBJECT, "triggers")] {
        let (before, _) = yaml.split_once(&format!("{list}:")).unwrap();
        let error = answer(&format!("{before}{list}: []")).expect_err(list);
        assert!(error.contains("there is no"), "{error}");
    }
}

#[test]
fn a_misspelt_pod_monitor_is_refused() {
    let table = r"
        podMetricsEndpoints              => endpoints      | unknown field `endpoints`
        selector: {matchLabels: {app: a}} => jobLabel: app | missing field `selector`
        podMetricsEndpoints:\n  - {port: metrics, honorLabels: true} => podMetricsEndpoints: [] | no endpoint
    ";
    refuses(POD_MONITOR, table);
}

#[test]
fn a_misspelt_rule_is_refused() {
    let table = r"
        alert: Down      => alerts: Down              | unknown field `alerts`
        alert: Down,     =>                           | neither alerts nor records
        alert: Down      => record: down              | records, and says what only an alert may say
        alert: Down      => alert: Down, record: down | alerts and records
        for: 5m          => for: 5 minutes            | is no duration
        expr: up == 0    => expr: ' '                 | Down has an empty expr
        keep_firing_for  => keepFiringFor             | unknown field `keepFiringFor`
        interval: 30s    => interval: 30              | expected a string
        - name: g        => - {name: g, rules: [{record: a, expr: b}]}\n  - name: g | two groups are named g
        - name: g        => - {name: f, rules: []}\n  - name: g | group f has no rule
    ";
    refuses(PROMETHEUS_RULE, table);
}

#[test]
fn a_misspelt_scaled_object_is_refused() {
    let table = "
        pollingInterval            => pollInterval         | unknown field `pollInterval`
        scaleTargetRef: {name: d}  =>                      | missing field `scaleTargetRef`
        minReplicaCount: 1         => minReplicaCount: 6   | at least 6 replicas are more than at most 5
        minReplicaCount: 1         => minReplicaCount: 0   | idle replicas are not below
        idleReplicaCount: 0        => idleReplicaCount: 1  | idle at 1 replicas
        maxReplicaCount: 5         => maxReplicaCount: 0   | no autoscaler can have 0 replicas at most
        type: Pods                 => type: Pod            | unknown variant `Pod`
        selectPolicy: Max          => selectPolicy: Most   | unknown variant `Most`
        periodSeconds: 30          => periodSeconds: 1801  | not within 1 to 1800
        periodSeconds: 30          => period: 30           | unknown field `period`
        WindowSeconds: 0           => WindowSeconds: 3601  | is above 3600 s
        behavior: currentReplicas  => behavior: current    | unknown variant `current`
        paused: 'true'             => paused: true         | expected a string
        type: Pods, value: 1       => type: Pods, value: 0 | a policy of 0 changes nothing
        [{type: Pods, value: 1, periodSeconds: 30}] => [] | an empty list of policies
    ";
    refuses(SCALED_OBJECT, table);
}

#[test]
fn a_misspelt_trigger_is_refused() {
    let table = "
        type: metrics-api         => type: metric-api         | a trigger of type metric-api
        targetValue: '1',         =>                          | without targetValue
        targetValue: '1'          => targetValue: 1           | expected a string
        targetValue: '1'          => targetValue: one         | no number
        format: json              => formats: json            | knows no formats
        format: json              => format: text             | there is no format text
        serverAddress             => server                   | without serverAddress
        metricType: AverageValue  => metricType: Average      | unknown variant `Average`
        metricType: AverageValue  => metricType: Utilization  | does not fit a trigger of type metrics-api
        metricType: Utilization   =>                          | does not fit a trigger of type cpu
    ";
    refuses(SCALED_OBJECT, table);
}

#[test]
fn only_a_trigger_that_looks_elsewhere_leaves_zero() {
    let yaml = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: s}
spec:
  scaleTargetRef: {name: d}
  minReplicaCount: 1
  triggers: [{type: cpu, metricType: Utilization, metadata: {value: '70'}}]
";
    assert_eq!(answer(yaml), Ok(()));
    refuses(
        yaml,
        "minReplicaCount: 1 => minReplicaCount: 0 | alone cannot tell when to leave 0",
    );
}

#[test]
fn a_misspelt_trigger_authentication_is_refused() {
    let table = "
        secretTargetRef => secretTargetRefs | unknown field `secretTargetRefs`
        , key: k        =>                  | missing field `key`
        secretTargetRef: [{parameter: token, name: s, key: k}] => {} | refers to nothing
    ";
    refuses(TRIGGER_AUTHENTICATION, table);
}

#[test]
fn a_misspelt_mini_cluster_is_refused() {
    let table = r"
        maxSize: 4          => maximumSize: 4        | unknown field `maximumSize`
        maxSize: 4          => maxSize: 1            | a size of 2 is above the largest, 1
        minSize: 1          => minSize: 3            | minSize is above size
        runFlux: true       => runFlux: false        | 0 containers run Flux
        runFlux: true       => runFlux: 'true'       | expected a boolean
        name: fetch         => logs: fetch           | needs a name
        image: fetch-init   => command: fetch-init   | not looked at with noWrapEntrypoint
        {pre: 'true'}       => {script: 'true'}      | a script or a command
        {pre: 'true'}       => {before: 'true'}      | unknown field `before`
        path: /etc/app,     =>                       | volume config has no path
        configMapName: c    => emptyDir: true, configMapName: c | volume config has 2 sources
        queuePolicy: fcfs   => queuePolicy: fifo     | unknown variant `fifo`
        environment: {A: b} => env: [{name: A, value: b}] | unknown field `env`
        {drop: [ALL]}       => {remove: [ALL]}       | unknown field `remove`
        runAsNonRoot        => runAsNoRoot           | unknown field `runAsNoRoot`
        size: 2             => size: 0               | a size of 0
        interactive: true   => deadlineSeconds: 0    | a deadline of 0 s
        interactive: true   => services: [{image: a}] | a service without a name
        runFlux: true       => runFlux: true\n    launcher: true\n    batch: true | a launcher or a batch
    ";
    refuses(MINI_CLUSTER, table);
}

#[test]
fn a_misspelt_adapter_rule_is_refused() {
    let table = r"
        matches: depth                     => match: depth   | unknown field `match`
        depth{<<.LabelMatchers>>}          => depth          | leaves <<.LabelMatchers>> out
        metricsQuery: avg                  => query: avg     | unknown field `query`
        namespace: {resource: namespace}   => namespace: {}  | missing field `resource`
        resources: {template: <<.Resource>>} => resources: {} | belong to no resource
        template: <<.Resource>>            => template: <<.Resources>> | leaves <<.Resource>> out
        isNot: ^x                          => isNot: ^x, is: y | neither or both
        as: queue_depth                    => as: ${1}_depth | config.yaml: 
        rules:\n                           => rules: []\n    extraRules:\n | unknown field `extraRules`
    ";
    refuses(ADAPTER, table);
}

#[test]
fn durations_are_those_of_prometheus() {
    let durations = [
        ("30s", 30_000),
        ("1h30m", 5_400_000),
        ("1m500ms", 60_500),
        ("0", 0),
    ];
    for (text, milliseconds) in durations {
        assert_eq!(
            super::rules::milliseconds(text),
            Some(milliseconds),
            "{text}"
        );
    }
    for text in ["", "30", "s", "1m1h", "1s1s", "1.5h", "-1s", "1 m"] {
        assert_eq!(super::rules::milliseconds(text), None, "{text}");
    }
}

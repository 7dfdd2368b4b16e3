//! The Flux Operator's `MiniCluster` (flux-framework.org/v1alpha2).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Meaning, NumberOrText, Result, ensure, parts};

parts! {
    struct MiniCluster {
        containers: Vec<Container>,
        #[serde(default)]
        services: Vec<Container>,
        network: Option<Network>,
        #[serde(default)]
        job_labels: BTreeMap<String, String>,
        interactive: Option<bool>,
        flux: Option<Flux>,
        logging: Option<Logging>,
        archive: Option<Archive>,
        share_process_namespace: Option<bool>,
        cleanup: Option<bool>,
        size: Option<u32>,
        max_size: Option<u32>,
        min_size: Option<u32>,
        backoff_limit: Option<u32>,
        tasks: Option<u32>,
        deadline_seconds: Option<u64>,
        pod: Option<Pod>,
    }
    struct Network {
        headless_name: Option<String>,
        disable_affinity: Option<bool>,
    }
    struct Archive {
        path: Option<String>,
    }
    struct Logging {
        quiet: Option<bool>,
        strict: Option<bool>,
        debug: Option<bool>,
        zeromq: Option<bool>,
        timed: Option<bool>,
    }
    struct Pod {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
        restart_policy: Option<RestartPolicy>,
        service_account_name: Option<String>,
        automount_service_account_token: Option<bool>,
        runtime_class_name: Option<String>,
        scheduler_name: Option<String>,
        #[serde(default)]
        node_selector: BTreeMap<String, String>,
        dns_policy: Option<String>,
        #[serde(default)]
        resources: BTreeMap<String, NumberOrText>,
        security_context: Option<PodSecurity>,
    }
    struct Flux {
        container: Option<FluxContainer>,
        arch: Option<String>,
        submit_command: Option<String>,
        wrap: Option<String>,
        connect_timeout: Option<String>,
        option_flags: Option<String>,
        minimal_service: Option<bool>,
        disable_socket: Option<bool>,
        topology: Option<String>,
        no_wait_socket: Option<bool>,
        complete_workers: Option<bool>,
        log_level: Option<u32>,
        scheduler: Option<Scheduler>,
        broker_config: Option<String>,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    }
    struct Scheduler {
        simple: Option<bool>,
        queue_policy: Option<QueuePolicy>,
    }
    struct FluxContainer {
        disable: Option<bool>,
        name: Option<String>,
        image: Option<String>,
        image_pull_secret: Option<String>,
        pull_always: Option<bool>,
        mount_path: Option<String>,
        python_path: Option<String>,
        working_dir: Option<String>,
        resources: Option<Resources>,
        security_context: Option<Security>,
    }
    struct Container {
        name: Option<String>,
        image: Option<String>,
        image_pull_secret: Option<String>,
        image_pull_policy: Option<String>,
        pull_always: Option<bool>,
        working_dir: Option<String>,
        command: Option<String>,
        commands: Option<Commands>,
        #[serde(default)]
        ports: Vec<u16>,
        #[serde(default)]
        environment: BTreeMap<String, String>,
        #[serde(default)]
        secrets: BTreeMap<String, SecretName>,
        launcher: Option<bool>,
        batch: Option<bool>,
        batch_raw: Option<bool>,
        logs: Option<String>,
        #[serde(default)]
        run_flux: bool,
        #[serde(default)]
        no_wrap_entrypoint: bool,
        #[serde(default)]
        volumes: BTreeMap<String, Volume>,
        life_cycle: Option<LifeCycle>,
        resources: Option<Resources>,
        security_context: Option<Security>,
    }
    struct PodSecurity {
        run_as_user: Option<u32>,
        run_as_group: Option<u32>,
        run_as_non_root: Option<bool>,
        fs_group: Option<u32>,
        fs_group_change_policy: Option<String>,
        #[serde(default)]
        supplemental_groups: Vec<u32>,
        seccomp_profile: Option<Seccomp>,
    }
    struct Security {
        privileged: Option<bool>,
        run_as_user: Option<u32>,
        run_as_group: Option<u32>,
        run_as_non_root: Option<bool>,
        read_only_root_filesystem: Option<bool>,
        allow_privilege_escalation: Option<bool>,
        capabilities: Option<Capabilities>,
        seccomp_profile: Option<Seccomp>,
    }
    struct Capabilities {
        #[serde(default)]
        add: Vec<String>,
        #[serde(default)]
        drop: Vec<String>,
    }
    struct Seccomp {
        #[serde(rename = "type")]
        kind: SeccompType,
        localhost_profile: Option<String>,
    }
    struct SecretName {
        name: String,
        key: String,
    }
    struct LifeCycle {
        post_start_exec: Option<String>,
        pre_stop_exec: Option<String>,
    }
    struct Commands {
        prefix: Option<String>,
        script: Option<String>,
        init: Option<String>,
        pre: Option<String>,
        post: Option<String>,
        worker_pre: Option<String>,
        broker_pre: Option<String>,
        service_pre: Option<String>,
    }
    struct Resources {
        #[serde(default)]
        limits: BTreeMap<String, NumberOrText>,
        #[serde(default)]
        requests: BTreeMap<String, NumberOrText>,
    }
    struct Volume {
        path: Option<String>,
        host_path: Option<String>,
        config_map_name: Option<String>,
        #[serde(default)]
        items: BTreeMap<String, String>,
        claim_name: Option<String>,
        secret_name: Option<String>,
        read_only: Option<bool>,
        #[serde(default)]
        empty_dir: bool,
        empty_dir_medium: Option<String>,
        empty_dir_size_limit: Option<String>,
        csi_driver: Option<String>,
        #[serde(default)]
        csi_driver_attributes: BTreeMap<String, String>,
    }
}

#[derive(Debug, Deserialize)]
pub(super) enum RestartPolicy {
    OnFailure,
    Never,
}

#[derive(Debug, Deserialize)]
pub(super) enum SeccompType {
    RuntimeDefault,
    Unconfined,
    Localhost,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum QueuePolicy {
    Fcfs,
    Easy,
}

impl Meaning for MiniCluster {
    fn check(&self) -> Result {
        let size = self.size.unwrap_or(1);
        let most = self.max_size.unwrap_or(size);
        ensure(size > 0, "a size of 0")?;
        ensure(
            size <= most,
            format!("a size of {size} is above the largest, {most}"),
        )?;
        ensure(
            self.min_size.is_none_or(|least| least <= size),
            "minSize is above size",
        )?;
        ensure(
            self.deadline_seconds != Some(0),
            "a deadline of 0 s starts no job",
        )?;
        let runners = self
            .containers
            .iter()
            .filter(|container| container.run_flux)
            .count();
        ensure(
            runners == 1 || self.containers.len() == 1,
            format!("{runners} containers run Flux, not one"),
        )?;
        ensure(
            self.services.iter().all(|service| service.name.is_some()),
            "a service without a name",
        )?;
        let alone = self.containers.len() == 1;
        self.containers
            .iter()
            .try_for_each(|container| container.check(alone))
    }
}

impl Container {
    fn check(&self, alone: bool) -> Result {
        let runs_flux = self.run_flux || alone;
        ensure(
            runs_flux || self.name.is_some(),
            "a container that runs no Flux needs a name",
        )?;
        ensure(
            self.launcher != Some(true) || self.batch != Some(true),
            "a container is a launcher or a batch",
        )?;
        let script = self
            .commands
            .iter()
            .any(|commands| commands.script.is_some());
        ensure(
            !(runs_flux && script && self.command.is_some()),
            "a container has a script or a command",
        )?;
        // The operator starts the image as it is then, and passes the command to nobody.
        ensure(
            !self.no_wrap_entrypoint || runs_flux || self.command.is_none(),
            "a command is not looked at with noWrapEntrypoint",
        )?;
        self.volumes
            .iter()
            .try_for_each(|(name, volume)| volume.check(name))
    }
}

impl Volume {
    fn check(&self, name: &str) -> Result {
        let sources = [
            self.host_path.is_some(),
            self.config_map_name.is_some(),
            self.claim_name.is_some(),
            self.secret_name.is_some(),
            self.csi_driver.is_some(),
            self.empty_dir,
        ];
        let sources = sources.into_iter().filter(|given| *given).count();
        ensure(sources == 1, format!("volume {name} has {sources} sources"))?;
        ensure(
            self.empty_dir || self.path.is_some(),
            format!("volume {name} has no path"),
        )
    }
}

//! The behaviour of a `HorizontalPodAutoscaler`, which others embed.

use serde::Deserialize;

use super::{Meaning, Result, ensure, parts};

parts! {
    struct Behavior {
        scale_up: Option<Rules>,
        scale_down: Option<Rules>,
    }
    struct Rules {
        stabilization_window_seconds: Option<u32>,
        select_policy: Option<SelectPolicy>,
        policies: Option<Vec<Policy>>,
        tolerance: Option<String>,
    }
    struct Policy {
        #[serde(rename = "type")]
        kind: PolicyType,
        value: u32,
        period_seconds: u32,
    }
}

#[derive(Debug, Deserialize)]
pub(super) enum SelectPolicy {
    Max,
    Min,
    Disabled,
}

#[derive(Debug, Deserialize)]
pub(super) enum PolicyType {
    Pods,
    Percent,
}

impl Meaning for Behavior {
    fn check(&self) -> Result {
        self.scale_up
            .iter()
            .chain(&self.scale_down)
            .try_for_each(Rules::check)
    }
}

impl Rules {
    fn check(&self) -> Result {
        let window = self.stabilization_window_seconds.unwrap_or(0);
        ensure(
            window <= 3600,
            format!("a stabilisation window of {window} s is above 3600 s"),
        )?;
        let Some(policies) = &self.policies else {
            return Ok(());
        };
        ensure(!policies.is_empty(), "an empty list of policies")?;
        policies.iter().try_for_each(Policy::check)
    }
}

impl Policy {
    fn check(&self) -> Result {
        ensure(self.value > 0, "a policy of 0 changes nothing")?;
        ensure(
            (1..=1800).contains(&self.period_seconds),
            format!(
                "a policy's period of {} s is not within 1 to 1800 s",
                self.period_seconds
            ),
        )
    }
}

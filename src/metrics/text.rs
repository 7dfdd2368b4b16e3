//! The text that a scrape gets.

use std::fmt::Debug;

use prometheus_client::encoding::text;
use prometheus_client::registry::{Metric, Registry};

/// Gives metrics their names, which begin with a prefix.
pub(super) struct Registrar(Registry);

impl Registrar {
    pub(super) fn new(prefix: &str) -> Self {
        Self(Registry::with_prefix(prefix))
    }

    /// Takes a metric in, and gives it back.
    pub(super) fn metric<M: Metric + Clone + Debug>(
        &mut self,
        name: &str,
        help: &str,
        metric: M,
    ) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// For metrics that are written by a collector.
    pub(super) fn registry(&mut self) -> &mut Registry {
        &mut self.0
    }

    pub(super) fn finish(self) -> Registry {
        self.0
    }
}

/// What is registered there, in the order of the registries.
pub(super) fn encode(registries: &[&Registry]) -> String {
    let mut text = String::new();
    for registry in registries {
        text::encode_registry(&mut text, registry).expect("a string takes any text");
    }
    classic(&text)
}

/// `OpenMetrics` as the older text format, which every scraper and linter reads.
///
/// There a counter's samples have the name of their family: the help and the type of `x` become those of `x_total`.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len() + 512);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let of_counter = is_counter(line)
            || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        if of_counter {
            let name = line.split(' ').nth(2).unwrap_or_default();
            classic.push_str(&line.replacen(name, &format!("{name}_total"), 1));
        } else {
            classic.push_str(line);
        }
        classic.push('\n');
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_get_the_ending_of_their_samples() {
        let text = "# HELP a A.\n# TYPE a counter\na_total 1\n# HELP b B a.\n# TYPE b gauge\nb 2\n";
        assert_eq!(
            classic(text),
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# HELP b B a.\n# TYPE b gauge\nb 2\n"
        );
    }
}

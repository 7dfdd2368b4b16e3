//! A container's process, as the kernel of this host has it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// The state of a connection, in the tables of the kernel.
const ESTABLISHED: &str = "01";

/// The first process of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process(pub(crate) i32);

impl Process {
    /// A field of its `/proc/PID/status`, such as `CapEff`.
    pub(crate) fn status(self, field: &str) -> String {
        let status = fs::read_to_string(self.file("status")).unwrap();
        let mut fields = status.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(name, _)| *name == field);
        let (_, value) = found.unwrap_or_else(|| panic!("there is no {field} in\n{status}"));
        value.trim().to_owned()
    }

    /// The first of these files that its control group has: the second version calls the same by another name.
    pub(crate) fn limit(self, controller: &str, names: [&str; 2]) -> String {
        let directory = self.control_group(controller);
        let files = names.map(|name| directory.join(name));
        let found = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let text = found.unwrap_or_else(|| panic!("none of {files:?} can be read"));
        text.trim().to_owned()
    }

    fn control_group(self, controller: &str) -> PathBuf {
        let groups = fs::read_to_string(self.file("cgroup")).unwrap();
        let own = groups.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            controllers
                .split(',')
                .any(|own| own == controller)
                .then_some(path)
        });
        let root = Path::new("/sys/fs/cgroup");
        let (root, path) = match own {
            Some(path) => (root.join(controller), path),
            None => (root.to_owned(), groups.trim().trim_start_matches("0::")),
        };
        root.join(path.trim_start_matches('/'))
    }

    /// How many connections there are to a port of its.
    pub(crate) fn connections(self, port: u16) -> usize {
        let to = format!(":{port:04X}");
        let tables = ["net/tcp", "net/tcp6"].map(|name| fs::read_to_string(self.file(name)));
        let table = tables.into_iter().flatten().collect::<String>();
        let rows = table
            .lines()
            .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.len() > 3 && row[1].ends_with(&to) && row[3] == ESTABLISHED)
            .count()
    }

    /// Ends it as if its node had: nothing that it holds is saved.
    pub(crate) fn kill(self) {
        let id = Pid::from_raw(self.0).expect("a container that runs has a process");
        kill_process(id, Signal::KILL).unwrap();
    }

    fn file(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }
}

//! What the manual pages say besides what the help says.

use code_server::exit::Exit;

/// What is added to the page of one command.
pub(crate) struct Page {
    /// Of the page.
    pub(crate) name: &'static str,
    /// Paragraphs behind the help's own.
    pub(crate) description: &'static [&'static str],
    /// How it ends, signals apart.
    pub(crate) exits: &'static [(Exit, &'static str)],
    /// Variables with their meanings.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Paths with their meanings.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// What for, and the lines to type.
    pub(crate) examples: &'static [(&'static str, &'static [&'static str])],
    /// Other pages with their sections.
    pub(crate) see_also: &'static [&'static str],
}

const RUST_LOG: (&str, &str) = (
    "RUST_LOG",
    "Which lines are logged: levels, or targets with levels, such as info or code_server=debug,warn.",
);
const SERVER_TWINS: (&str, &str) = (
    "CODE_SERVER_…",
    "Each flag has a twin, made of this prefix and its name in capitals with underscores: --state-dir is also CODE_SERVER_STATE_DIR. The flag wins. A variable that looks like a twin and is none is warned about.",
);
const SOURCE_DATE_EPOCH: (&str, &str) = (
    "SOURCE_DATE_EPOCH",
    "One time for all entries of the archive, in seconds since 1970, where --mtime gives none.",
);
const CODEIGNORE: (&str, &str) = (
    "ROOT/**/.codeignore",
    "What of this directory and those beneath it does not belong to the code, in the grammar of .gitignore.",
);
const DONE: (Exit, &str) = (Exit::Done, "Done.");
const USAGE: (Exit, &str) = (Exit::Usage, "The command line is wrong.");

/// One for each command.
pub(crate) const PAGES: &[Page] = &[
    Page {
        name: "code-server",
        description: &[
            "The archive is an ordinary .tar.gz, and a function of the code alone: the same tree gives the same bytes. It is served with its listing, whose SHA-256 is the revision, and with a descriptor, by which fetch-init(1) verifies and resumes; curl and tar work as well.",
            "The commands are described on pages of their own.",
        ],
        exits: &[
            DONE,
            USAGE,
            (
                Exit::Config,
                "See the page of the command for this and for other codes.",
            ),
        ],
        environment: &[SERVER_TWINS, RUST_LOG],
        files: &[CODEIGNORE],
        examples: &[(
            "Serve a directory to this machine, and fetch it by other means:",
            &[
                "code-server serve /srv/code &",
                "curl -s http://127.0.0.1:8080/code.tar.gz | tar xz -C /tmp/code",
            ],
        )],
        see_also: &[
            "code-server-serve(1)",
            "code-server-pack(1)",
            "code-server-ingest(1)",
            "code-server-healthcheck(1)",
            "fetch-init(1)",
        ],
    },
    Page {
        name: "code-server-serve",
        description: &[
            "Builds at the start and whenever the tree has changed and is quiet again. A build that fails leaves what is served as it is, says why in the log, and is tried again. A state directory that was kept lets a restart serve at once what was served last.",
            "At SIGTERM or SIGINT no more connections are accepted, running downloads have the drain timeout to end, and the exit code is 0. At SIGHUP the tree is looked at again.",
        ],
        exits: &[
            (Exit::Done, "It was told to stop."),
            USAGE,
            (
                Exit::CannotCreate,
                "A listening socket or the state directory cannot be created.",
            ),
            (Exit::Io, "Reading or writing failed, or the disk is full."),
            (Exit::Refused, "Permission was denied."),
            (
                Exit::Config,
                "The root is no directory, a rule cannot be understood, a certificate or a key cannot be used, or the machine has no such address.",
            ),
        ],
        environment: &[SERVER_TWINS, RUST_LOG, SOURCE_DATE_EPOCH],
        files: &[
            CODEIGNORE,
            (
                "ROOT/.code-hold",
                "While it stands there, nothing is built; --hold-file names another one.",
            ),
            (
                "STATE_DIR",
                "Archives that were published, with what was read for them. One server uses it at a time.",
            ),
        ],
        examples: &[
            (
                "Listen on every address, and keep archives beside the code:",
                &["code-server serve /data/workspace --listen :8080 --state-dir /data/state"],
            ),
            (
                "Change many files as one:",
                &["touch .code-hold && git checkout -q v2 && rm .code-hold"],
            ),
            ("See what is served:", &["curl http://127.0.0.1:8080/"]),
        ],
        see_also: &["code-server(1)", "code-server-ingest(1)", "fetch-init(1)"],
    },
    Page {
        name: "code-server-pack",
        description: &[
            "The archive goes to standard output, or to a file that appears when it is whole. Two listings can be compared to see what a deploy changes.",
        ],
        exits: &[
            DONE,
            USAGE,
            (Exit::CannotCreate, "The file cannot be created."),
            (Exit::Io, "Reading or writing failed, or the disk is full."),
            (Exit::Busy, "The tree does not hold still."),
            (
                Exit::Refused,
                "An entry may not be read; it is named with its owner and mode.",
            ),
            (
                Exit::Config,
                "The root does not exist, is no directory or has nothing in it, or a rule cannot be understood.",
            ),
        ],
        environment: &[SERVER_TWINS, RUST_LOG, SOURCE_DATE_EPOCH],
        files: &[CODEIGNORE],
        examples: &[
            (
                "Write an archive, and its descriptor beside it:",
                &["code-server pack . -o code.tar.gz --json > code.json"],
            ),
            (
                "Compare this directory with what is served:",
                &[
                    "code-server pack . --list > new.list",
                    "curl -s http://myapp-code-server:8080/code.list | diff - new.list",
                ],
            ),
            (
                "See what is left out, and why:",
                &["code-server pack . --list-excluded"],
            ),
        ],
        see_also: &["code-server(1)", "code-server-serve(1)", "tar(1)"],
    },
    Page {
        name: "code-server-ingest",
        description: &[
            "The archive, tar or tar.gz, is unpacked beside ROOT, and the two directories change places in one step. An archive that is cut off, hostile, too large, or holds nothing that would be served changes nothing. The revision goes to standard output; whether it is served is told on standard error.",
            "ROOT can be neither a mount point nor a symbolic link: mount the volume one level higher.",
        ],
        exits: &[
            (
                Exit::Done,
                "The tree is in its place, and is served if there is a server.",
            ),
            USAGE,
            (Exit::Data, "The archive is damaged, hostile or too large."),
            (
                Exit::Unavailable,
                "The tree is in its place, and not served in time.",
            ),
            (Exit::CannotCreate, "The root cannot be exchanged."),
            (
                Exit::Io,
                "Reading or writing failed, or the disk is full; or the tree is in its place, and the server cannot build it.",
            ),
            (Exit::Busy, "Another one is at work on the same root."),
            (Exit::Refused, "Permission was denied."),
            (
                Exit::Config,
                "The directory that is to hold the root does not exist, nothing in the archive would be served, or a rule cannot be understood.",
            ),
        ],
        environment: &[SERVER_TWINS, RUST_LOG],
        files: &[(
            "PARENT/.code-ingest-NAME",
            "The new tree of a root NAME while it is unpacked; removed at the end, or by the next run.",
        )],
        examples: &[(
            "Replace the code of a pod from elsewhere:",
            &[
                "tar cz -C myapp . | kubectl exec -i deploy/myapp-code-server -- /code-server ingest /data/workspace",
            ],
        )],
        see_also: &["code-server(1)", "code-server-serve(1)"],
    },
    Page {
        name: "code-server-healthcheck",
        description: &[
            "Without a URL the server is found by the environment that it shares with this command.",
        ],
        exits: &[
            (Exit::Done, "It answered as it should."),
            USAGE,
            (Exit::Unavailable, "It did not."),
            (Exit::Config, "A certificate cannot be used."),
        ],
        environment: &[SERVER_TWINS],
        files: &[],
        examples: &[
            ("As the probe of a container:", &["code-server healthcheck"]),
            (
                "Ask another server:",
                &["code-server healthcheck https://myapp-code-server:8443 --ca-cert ca.crt"],
            ),
        ],
        see_also: &["code-server(1)", "code-server-serve(1)"],
    },
    Page {
        name: "fetch-init",
        description: &[
            "Every part of a download is verified before it is unpacked, a broken one goes on where it broke, and the revision is computed anew from what was written before anything of it becomes visible. A run that was killed leaves the old tree, or a tree that the next run completes.",
            "What may pass is tried again until the deadline. What fails is told in one sentence on standard error and in the termination log, where kubectl describe pod shows it. Standard output is used for --print-revision alone.",
            "On a terminal a line shows how far it is; elsewhere, and with --log-format json, the log has a line for each phase. --progress off silences both, and neither errors and warnings nor the line at the end that says what was installed and what it took.",
            "Before the first byte of an archive is asked for, it is compared with the free space and the free inodes of the file system of TARGET, beside what TARGET holds already.",
        ],
        exits: &[
            (
                Exit::Done,
                "The target holds the tree; with --print-revision, the revision was written; a follower was told to stop by SIGTERM or SIGINT.",
            ),
            (
                Exit::Usage,
                "The command line is wrong; so is an archive of a plain web server with none of --sha256, --revision and --allow-unverified.",
            ),
            (
                Exit::Data,
                "The archive, the descriptor or a digest is wrong, again and again; or it is larger than --max-size or --max-entries allow.",
            ),
            (
                Exit::Unavailable,
                "No server that answers, is ready and has an accepted certificate, or not the wanted revision, until the deadline. Where --fallback names others, the code is that of the first server's failure.",
            ),
            (
                Exit::CannotCreate,
                "The target cannot be used, or something in it cannot be created.",
            ),
            (
                Exit::Io,
                "Reading or writing failed, or the tree does not fit.",
            ),
            (Exit::Busy, "Another one is at work on the same target."),
            (Exit::Refused, "The server refuses access."),
            (
                Exit::Config,
                "A token, a certificate or the program of --on-change cannot be used.",
            ),
        ],
        environment: &[
            (
                "FETCH_INIT_…",
                "Everything has a twin, made of this prefix and its name in capitals with underscores: --deadline is also FETCH_INIT_DEADLINE, and the two arguments are FETCH_INIT_URL and FETCH_INIT_TARGET. The command line wins. A variable that looks like a twin and is none is warned about.",
            ),
            RUST_LOG,
            (
                "SSL_CERT_FILE",
                "The authorities of the system, where they are kept elsewhere and --ca-cert names none.",
            ),
        ],
        files: &[
            (
                "TARGET/.code-revision",
                "The revision that the target holds; absent while it changes.",
            ),
            (
                "TARGET/.code-fetch",
                "What the next run has to know, and a tree that is being unpacked.",
            ),
            (
                "/dev/termination-log",
                "Is told the reason of a failure, if it is there; --termination-log names another one.",
            ),
        ],
        examples: &[
            (
                "Fetch, and let the group read what is fetched, but nobody else:",
                &["fetch-init http://myapp-code-server:8080 /app --umask 027"],
            ),
            (
                "Wait for one revision, for ten minutes at most:",
                &[
                    "fetch-init http://myapp-code-server:8080 /app --revision sha256:1f0c… --deadline 10m",
                ],
            ),
            (
                "Ask which revision is served, and fetch nothing:",
                &["fetch-init http://myapp-code-server:8080 --print-revision"],
            ),
            (
                "Ask another server where the first one fails:",
                &["fetch-init http://myapp-code-server:8080 /app --fallback http://mirror:8080"],
            ),
            (
                "Stay, install each new revision, and have the application load it:",
                &["fetch-init http://myapp-code-server:8080 /app --follow --signal HUP=gunicorn"],
            ),
            (
                "The same with a command, which finds the new revision in CODE_REVISION and the one before in CODE_PREVIOUS_REVISION:",
                &[
                    "fetch-init http://myapp-code-server:8080 /app --follow --on-change \"sh -c 'date > /app/reload'\"",
                ],
            ),
            (
                "Take an archive from a plain web server:",
                &[
                    "fetch-init https://files.example/code.tar.gz /app --sha256 \"$(sha256sum < code.tar.gz | cut -c1-64)\"",
                ],
            ),
        ],
        see_also: &["code-server(1)", "code-server-serve(1)"],
    },
];

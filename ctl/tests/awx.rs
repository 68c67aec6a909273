//! AWX's own files, word for word but for their paths, under the name `receptor`: signed work runs over TLS, as AWX asks
//! for it with Receptor's published client.
//!
//! The files rely on names of hosts and on a fixed port, so both nodes run in a namespace where these are what the files
//! say. Without the rights or the tools for that the test says so and passes.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Instant,
};

use common::{PATIENCE, Ran, finish, lines, program, receptorctl, signal};

const CONTROL: &str = include_str!("../src/config/tests/awx-control.conf");
const EXECUTION: &str = include_str!("../src/config/tests/awx-execution.conf");

/// The host of the control node, whose file leaves the node's name to the host's.
const CONTROLLER: &str = "awx-control";
const EXECUTOR: &str = "exec1.example.com";

/// What stands in for ansible-runner: it shows its arguments and gives its input back.
const RUNNER: &str = "#!/bin/sh\necho \"runner $*\"\ncat\n";

/// A host where the names in the files are known, and `/tmp/receptor` is empty. It is gone with the value.
struct Host {
    directory: tempfile::TempDir,
    holder: Child,
    /// Whoever is not root becomes it there.
    as_root: bool,
}

impl Host {
    fn new() -> Result<Host, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["bin", "control", "execution", "data"] {
            fs::create_dir(at(name)).expect("a directory");
        }
        symlink(program(), at("bin/receptor")).expect("the name");
        fs::write(at("bin/ansible-runner"), RUNNER).expect("a script");
        fs::set_permissions(at("bin/ansible-runner"), fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::write(at("hosts"), format!("127.0.0.1 localhost {EXECUTOR}\n")).expect("names");
        // The files name no datadir, and where it is by default nothing may be left behind.
        fs::create_dir_all("/tmp/receptor").map_err(|error| format!("/tmp/receptor: {error}"))?;
        let script = format!(
            "hostname {CONTROLLER} && ip link set lo up && mount --bind {hosts} /etc/hosts && \
             mount --bind {data} /tmp/receptor && echo ready && exec cat",
            hosts = at("hosts").display(),
            data = at("data").display(),
        );
        let as_root = nix::unistd::geteuid().is_root();
        let mut holder = Command::new("unshare")
            .args(if as_root { &[][..] } else { &["--user", "--map-root-user"] })
            .args(["--net", "--mount", "--uts", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut ready = String::new();
        let read = BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut ready);
        if read.is_err() || ready != "ready\n" {
            return Err(finish(holder, &["unshare"]).stderr);
        }
        Ok(Host { directory, holder, as_root })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program of ours on that host.
    fn command(&self, name: &str) -> Command {
        let (pid, bin) = (self.holder.id().to_string(), self.path("bin"));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "--mount", "--uts"]);
        command.args(if self.as_root { &[][..] } else { &["--user", "--preserve-credentials"] });
        command.arg(bin.join(name)).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn receptor(&self, words: &[&str]) -> Ran {
        finish(self.command("receptor").args(words).spawn().expect("the program starts"), words)
    }

    /// Writes a file of AWX with its paths moved here, and nothing else changed.
    fn file(&self, node: &str, text: &str) -> PathBuf {
        let here = self.path(node).display().to_string();
        let moved = text.replace("/etc/receptor", &here).replace("/var/run/receptor", &here);
        let file = self.path(&format!("{node}/receptor.conf"));
        fs::write(&file, moved).expect("the file is written");
        file
    }

    fn start(&self, file: &Path) -> Node {
        let mut child = self.command("receptor").arg("-c").arg(file).spawn().expect("the node starts");
        let log = lines(child.stderr.take().expect("piped"));
        let mut node = Node { child, log };
        node.wait_log("Initialization complete");
        node
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = fs::remove_dir("/tmp/receptor"); // only if it is empty
    }
}

/// A running node.
struct Node {
    child: Child,
    log: mpsc::Receiver<String>,
}

impl Node {
    fn wait_log(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return,
                Ok(line) => seen.push(line),
                Err(error) => panic!("never logged `{words}` ({error}): {seen:#?}"),
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

/// Keys and certificates as AWX makes them: with `receptor` itself, and a pair of keys for signatures.
fn certify(host: &Host) {
    let at = |file: &str| host.path(file).display().to_string();
    let key = |word: &str, file: &str| format!("{word}={}", at(file));
    let (ca, ca_key) = ("ca.crt", "ca.key");
    for node in ["control", "execution"] {
        fs::create_dir_all(host.path(&format!("{node}/tls/ca"))).expect("a directory");
    }
    let init =
        ["--cert-init", "commonname=AWX mesh CA", "bits=2048", &key("outcert", ca), &key("outkey", ca_key)];
    host.receptor(&init).ok();
    for (name, file) in [(CONTROLLER, "control/tls/receptor"), (EXECUTOR, "execution/tls/exec1.example.com")]
    {
        let [request, certificate, private] = ["req", "crt", "key"].map(|kind| format!("{file}.{kind}"));
        host.receptor(&[
            "--cert-makereq",
            "bits=2048",
            &format!("commonname={name}"),
            &format!("dnsname={name}"),
            &format!("nodeid={name}"),
            &key("outreq", &request),
            &key("outkey", &private),
        ])
        .ok();
        host.receptor(&[
            "--cert-signreq",
            &key("req", &request),
            &key("cacert", ca),
            &key("cakey", ca_key),
            &key("outcert", &certificate),
            "verify=yes",
        ])
        .ok();
    }
    for node in ["control", "execution"] {
        fs::copy(host.path(ca), host.path(&format!("{node}/tls/ca/mesh-CA.crt"))).expect("the authority");
    }
    let openssl = |words: &[&str]| {
        let made = Command::new("openssl").args(words).output().expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
    };
    let (private, public) = (at("control/work_private_key.pem"), at("execution/work_public_key.pem"));
    openssl(&["genrsa", "-out", &private, "2048"]);
    openssl(&["rsa", "-in", &private, "-pubout", "-out", &public]);
}

#[test]
fn awx_runs_signed_work_over_tls_with_its_own_files() {
    let Some(client) = receptorctl() else { return };
    let host = match Host::new() {
        Ok(host) => host,
        Err(why) => return println!("SKIPPED: no host of its own for AWX's files here: {why}"),
    };
    certify(&host);
    let (control, execution) = (host.file("control", CONTROL), host.file("execution", EXECUTION));
    let mut executor = host.start(&execution);
    let mut controller = host.start(&control);
    controller.wait_log(&format!("node={EXECUTOR}"));
    executor.wait_log(&format!("node={CONTROLLER}"));

    let receptorctl = |node: &str, words: &[&str]| {
        let mut command = Command::new(&client);
        command.arg("--socket").arg(host.path(&format!("{node}/receptor.sock"))).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("the client starts"), words)
    };
    // AWX gives its client the file, too.
    let file = control.display().to_string();
    let ours = |words: &[&str]| {
        receptorctl("control", &[&["--config", &file, "--tls-client", "tlsclient"], words].concat())
    };

    // An advert tells nobody when it comes.
    let end = Instant::now() + PATIENCE;
    let executors = loop {
        let status: serde_json::Value =
            serde_json::from_str(&ours(&["status", "--json"]).ok()).expect("JSON");
        assert_eq!(status["NodeID"], CONTROLLER);
        let adverts = status["Advertisements"].as_array().expect("a list");
        if let Some(advert) = adverts.iter().find(|advert| advert["NodeID"] == EXECUTOR) {
            break advert.clone();
        }
        assert!(Instant::now() < end, "no advert of {EXECUTOR}: {status}");
    };
    let work = serde_json::json!([{"WorkType": "ansible-runner", "Secure": true}]);
    assert_eq!(executors["WorkCommands"], work);

    let there = ["work", "submit", "--node", EXECUTOR, "--tls-client", "tlsclient"];
    let submit = |more: &[&'static str]| ours(&[&there[..], more].concat());
    let job = ["ansible-runner", "-l", "the play", "-f", "--rm", "-a", "params=--private-data-dir=/tmp/x"];
    let ran = submit(&[&["--signwork"], &job[..]].concat()).ok();
    assert!(ran.starts_with("runner worker --private-data-dir=/tmp/x\nthe play"), "{ran}");
    let unsigned = submit(&job);
    assert!(
        (unsigned.stdout + &unsigned.stderr).contains("could not verify signature"),
        "unsigned work is refused"
    );
    let insecure = ours(&[&["work", "submit", "--node", EXECUTOR, "--signwork"], &job[..]].concat());
    let said = insecure.stdout + &insecure.stderr;
    assert!(said.contains("insecure connection to secure service"), "without TLS there is no work: {said}");

    let local = ours(&["work", "submit", "local", "-l", "here", "-f", "--rm"]).ok();
    assert!(local.starts_with("runner worker\nhere"), "{local}");
    assert_eq!(ours(&["reload"]).ok(), "Reload successful\n");

    // The control node's rule lets nobody reach its control service through the mesh.
    let from_there = receptorctl("execution", &["status", "--json"]).ok();
    assert!(from_there.contains(CONTROLLER), "{from_there}");
    let blocked = receptorctl("execution", &["work", "list", "--node", CONTROLLER]);
    let said = blocked.stdout + &blocked.stderr;
    assert!(said.contains("blocked by firewall"), "{said}");
}

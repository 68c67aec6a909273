//! Who may do what: every action, by every way in, about own and others' units, as the table says; and the audit says the same.

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::Command,
    thread,
};

use common::{Daemon, Pki, Talk, World, free_port};
use serde_json::{Value, json};
use workunits::{
    request::WorkRequest,
    sign::{Bond, Signer, SigningConfig, digest},
    unit::Controller,
};

/// The rules of the node under test. `ME` is whoever runs this.
const GRANTS: &str = r#"
- grants:
    - {principal: "uid:ME", actions: "*", units: any}
    - {principal: "node:a", actions: [submit, list, status, results, release], worktype: /open|sealed/}
    - {principal: "node:a", actions: [cancel], worktype: open}
    - {principal: "token:alice@a", actions: [cancel], worktype: sealed}
    - {principal: "node:b", actions: [submit, status], worktype: open}
    - {principal: "node:b", actions: [list, results], worktype: sealed, units: any}
    - {principal: "node:/[bx]/", actions: [sign]}
    - {principal: "node:b", actions: [adopt], worktype: open, units: any}
    - {principal: "cert:carol", actions: [submit, list, status, results, cancel, release], worktype: open}
"#;

/// What is said when no rule fits, and when one would but for the owner.
const NONE: &str = "no grant allows it";
const UNSIGNED: &str = "could not verify signature: signature is empty";

/// A row: the action, the work type, whose unit (`-`: none), and for each who asks the rule that grants it. `-` is none,
/// `oN` is rule N but for the owner, `!` a signature that is missing.
///
/// me: the socket. other: the socket as another user. a, b: nodes. alice, bob: node a, signed for them. carol, dave: the TLS port,
/// each with a certificate of the right authority.
const TABLE: &str = "
    action   type    of     me  other  a   b   alice  bob  carol  dave
    submit   open    -      1   -      2   5   .      .    9      -
    submit   sealed  -      1   -      !   !   2      2    !      !
    submit   shut    -      1   -      -   -   .      .    -      -
    status   -       -      1   -      -   -   .      .    -      -
    reload   -       -      1   -      -   -   .      .    -      -
    connect  -       -      1   -      -   -   .      .    -      -
    status   open    me     1   -      o2  o5  .      .    o9     -
    status   open    a      1   -      2   o5  .      .    o9     -
    status   open    b      1   -      o2  5   .      .    o9     -
    status   open    carol  1   -      o2  o5  .      .    9      -
    status   shut    me     1   -      -   -   .      .    -      -
    status   sealed  alice  1   -      2   -   .      .    -      -
    results  open    me     1   -      o2  -   .      .    o9     -
    results  open    a      1   -      2   -   .      .    o9     -
    results  open    b      1   -      o2  -   .      .    o9     -
    results  open    carol  1   -      o2  -   .      .    9      -
    results  shut    me     1   -      -   -   .      .    -      -
    results  sealed  me     1   -      !   !   o2     o2   !      !
    results  sealed  alice  1   -      !   !   2      2    !      !
    cancel   open    me     1   -      o3  -   .      .    o9     -
    cancel   open    a      1   -      3   -   .      .    o9     -
    cancel   open    b      1   -      o3  -   .      .    o9     -
    cancel   open    carol  1   -      o3  -   .      .    9      -
    cancel   shut    me     1   -      -   -   .      .    -      -
    cancel   sealed  me     1   -      !   !   o4     -    !      !
    cancel   sealed  alice  1   -      !   !   4      -    !      !
    cancel   sealed  bob    1   -      !   !   o4     -    !      !
    adopt    open    me     1   -      -   8   .      .    -      -
    adopt    open    a      1   -      -   8   .      .    -      -
    adopt    shut    me     1   -      -   -   .      .    -      -
    adopt    sealed  me     1   -      !   !   -      -    !      !
    release  open    me     1   -      o2  -   .      .    o9     -
    release  open    a      1   -      2   -   .      .    o9     -
    release  open    b      1   -      o2  -   .      .    o9     -
    release  open    carol  1   -      o2  -   .      .    9      -
    release  shut    me     1   -      -   -   .      .    -      -
    release  sealed  me     1   -      !   !   o2     o2   !      !
    release  sealed  bob    1   -      !   !   2      2    !      !
";

/// Another user than the one who runs this.
const OTHER: u32 = 4_242;

struct Access {
    world: World,
    a: Daemon,
    b: Daemon,
    c: Daemon,
    me: u32,
    /// The lines that the audit must hold.
    expected: Vec<Value>,
}

impl Access {
    fn new() -> Access {
        let world = World::new();
        let (me, port, tls_port) = (nix::unistd::getuid().as_raw(), free_port(), free_port());
        let keys = world.path().display().to_string();
        key_pair(&world);
        let pki = Pki::new(&world, "ca");
        for name in ["c", "carol", "dave"] {
            pki.issue(name, if name == "c" { &["c"] } else { &[] });
        }
        let secure = format!(
            "{}- control-service: {{service: second, tcplisten: \"127.0.0.1:{tls_port}\", tcptls: srv}}\n",
            pki.profiles("c", "")
        );
        let speaks_for = |who: &str| {
            let [ca, cert, key] =
                [("ca", "crt"), (who, "crt"), (who, "key")].map(|(name, kind)| pki.file(name, kind));
            format!(
                "- tls-client: {{name: {who}, rootcas: {ca}, cert: {cert}, key: {key}, skipreceptornamescheck: true}}\n\
                 - tcp-client: {{service: {who}, address: \"localhost:{tls_port}\", tlsclient: {who}}}\n"
            )
        };
        let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
        let mut b = world.start("b", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n"));
        let file = world.path().join("c.yml");
        let of = |name: &str| {
            format!(
                "- work-command: {{worktype: {name}, command: cat, verifysignature: {}}}\n",
                name == "sealed"
            )
        };
        let text = format!(
            "---\n- node: {{id: c, datadir: {keys}/data}}\n- log-level: debug\n\
             - control-service: {{filename: {}, permissions: 0666}}\n{peer}{secure}{}{}{}\
             - work-verification: {{publickey: {keys}/key.pub}}\n- audit: {{file: {keys}/audit}}\n{}",
            world.socket("c").display(),
            of("open"),
            of("sealed"),
            of("shut"),
            GRANTS.replace("ME", &me.to_string()),
        );
        fs::write(&file, text).expect("written");
        // Another user must get to the socket.
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o711)).expect("opened");
        let c = world.start_file(&[], "c", &file);
        let mut a = world.start("a", &format!("{peer}{}{}", speaks_for("carol"), speaks_for("dave")));
        a.wait_reach("c");
        b.wait_reach("c");
        Access { world, a, b, c, me, expected: Vec::new() }
    }

    fn audit_file(&self) -> PathBuf {
        self.world.path().join("audit")
    }

    /// A conversation with c as `who`.
    fn talk(&self, who: &str) -> Talk {
        let over = |node: &Daemon| {
            let mut talk = node.talk();
            talk.say("connect c control");
            assert_eq!(talk.line(), "Connecting");
            assert_eq!(talk.line(), "Receptor Control, node c");
            talk
        };
        match who {
            "me" => self.c.talk(),
            "other" => {
                let socket = self.world.socket("c");
                let mut talk = Talk::over(as_user(OTHER, socket));
                assert_eq!(talk.line(), "Receptor Control, node c");
                talk
            }
            "b" => over(&self.b),
            "carol" | "dave" => {
                // A proxy of node a speaks TLS for them.
                let mut talk = self.a.talk();
                talk.say(&format!("connect a {who}"));
                assert_eq!(talk.line(), "Connecting");
                assert_eq!(talk.line(), "Receptor Control, node c");
                talk
            }
            _ => over(&self.a),
        }
    }

    /// The principals of `who`, the way, and the token's subject, if they sign.
    fn shown(&self, who: &str) -> (String, Vec<String>, &'static str) {
        match who {
            "me" => (format!("uid:{}", self.me), vec![], "socket"),
            "other" => (format!("uid:{OTHER}"), vec![], "socket"),
            "a" | "b" => (format!("node:{who}"), vec![], "mesh"),
            "carol" | "dave" => (format!("cert:{who}"), vec![], "tls"),
            signer => ("node:a".to_owned(), vec![format!("token:{signer}@a")], "mesh"),
        }
    }

    /// A request as `who` sends it: signed, if they sign.
    fn line(&self, who: &str, mut request: Value) -> String {
        if matches!(who, "alice" | "bob") {
            let members = request.as_object().expect("an object");
            let bond = Bond { digest: &digest(members), subject: &format!("{who}@a") };
            let key = SigningConfig {
                private_key: self.world.path().join("key.pem"),
                key_id: None,
                token_expiration: std::time::Duration::from_secs(300),
            };
            let signer = Signer::new(key, "a".to_owned());
            let token = signer.sign_bound("c", bond, std::time::SystemTime::now()).expect("signed");
            request["signature"] = json!(token);
        }
        request.to_string()
    }

    /// Notes a line that the audit must hold.
    fn expect(&mut self, who: &str, action: &str, about: [Option<&str>; 3], verdict: &Verdict) {
        let (principal, mut also, way) = self.shown(who);
        if matches!(verdict, Verdict::Unsigned) {
            also.clear();
        }
        let [work_type, unit, node] = about;
        self.expected.push(json!({
            "principal": principal, "also": also, "way": way, "action": action, "work_type": work_type, "unit": unit,
            "node": node, "decision": if verdict.allows() { "allowed" } else { "denied" },
            "reason": verdict.reason(&principal, &also),
        }));
    }

    /// A unit of `who`'s, which has ended.
    fn unit(&mut self, who: &str, work_type: &str) -> String {
        let rule = if who == "me" {
            1
        } else if who == "b" {
            5
        } else if who == "carol" {
            9
        } else {
            2
        };
        let mut talk = self.talk(who);
        talk.say(&self.line(who, submission(work_type, "c")));
        let said = talk.line();
        let unit = said.strip_prefix("Work unit created with ID ").and_then(|rest| rest.split('.').next());
        let unit = unit.unwrap_or_else(|| panic!("{who} {work_type}: {said}")).to_owned();
        assert!(talk.line().contains("Job Started"));
        self.expect(who, "submit", [Some(work_type), Some(&unit), None], &Verdict::Granted(rule));
        unit
    }

    /// Asks, and checks that it is granted or refused as the table says.
    fn ask(&mut self, who: &str, row: &Row, verdict: &Verdict) {
        let Row { action, work_type, of } = *row;
        let unit = of.map(|owner| self.unit(owner, work_type.expect("a unit has a type")));
        let request = match (action, &unit) {
            ("submit", _) => submission(work_type.expect("a type"), "c"),
            ("status", None) => json!({"command": "status"}),
            ("reload", _) => json!({"command": "reload"}),
            ("connect", _) => json!({"command": "connect", "node": "b", "service": "control"}),
            ("results", Some(unit)) => {
                json!({"command": "work", "subcommand": "results", "unitid": unit, "startpos": 0})
            }
            ("adopt", Some(unit)) => {
                let node = if who == "b" { "b" } else { "a" };
                let to = Controller { node: node.to_owned(), unit_id: "aB3dEf9Z".to_owned() };
                let handed = WorkRequest::HandOver { unit: unit.clone(), to, signature: String::new() };
                serde_json::from_str(&handed.to_line()).expect("an object")
            }
            (_, Some(unit)) => json!({"command": "work", "subcommand": action, "unitid": unit}),
            other => panic!("{other:?}"),
        };
        let mut talk = self.talk(who);
        talk.say(&self.line(who, request));
        let said = talk.line();
        let (principal, also, _) = self.shown(who);
        let told = match verdict {
            Verdict::Granted(_) => !said.starts_with("ERROR"),
            Verdict::Unsigned => said == format!("ERROR: {UNSIGNED}"),
            _ => {
                let who = [vec![principal.clone()], also.clone()].concat().join(", ");
                said.starts_with(&format!("ERROR: {who} may not {action}"))
                    && said.contains(&verdict.reason(&principal, &also))
            }
        };
        assert!(told, "{who} {row:?} {verdict:?}: {said}");
        let made = (action == "submit").then(|| said.strip_prefix("Work unit created with ID ")).flatten();
        let made = made.and_then(|rest| rest.split('.').next()).map(str::to_owned);
        let node = (action == "connect").then_some("b");
        self.expect(who, action, [work_type, unit.as_deref().or(made.as_deref()), node], verdict);
    }

    /// The audit as it is, without the times.
    fn audit(&mut self) -> Vec<Value> {
        self.c.stop();
        let text = fs::read_to_string(self.audit_file()).expect("the audit");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let without_time = |mut line: Value| {
            assert!(line["time"].is_string(), "{line}");
            line.as_object_mut().expect("an object").remove("time");
            line
        };
        lines.map(without_time).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    action: &'a str,
    work_type: Option<&'a str>,
    of: Option<&'a str>,
}

#[derive(Debug)]
enum Verdict {
    Granted(u32),
    NotOwn(u32),
    None,
    Unsigned,
}

impl Verdict {
    fn of(cell: &str) -> Option<Verdict> {
        let number = |text: &str| text.parse().expect("a rule's number");
        Some(match cell {
            "." => return None,
            "-" => Verdict::None,
            "!" => Verdict::Unsigned,
            _ => cell
                .strip_prefix('o')
                .map_or_else(|| Verdict::Granted(number(cell)), |of| Verdict::NotOwn(number(of))),
        })
    }

    fn allows(&self) -> bool {
        matches!(self, Verdict::Granted(_))
    }

    fn reason(&self, principal: &str, also: &[String]) -> String {
        match self {
            // Rule 4 is for tokens, all others for who came.
            Verdict::Granted(4) => format!("grant 4, to {}", also[0]),
            Verdict::Granted(rule) => format!("grant {rule}, to {principal}"),
            Verdict::NotOwn(rule) => {
                format!("grant {rule} is for own units, and this one belongs to another")
            }
            Verdict::None => NONE.to_owned(),
            Verdict::Unsigned => UNSIGNED.to_owned(),
        }
    }
}

/// A submission of nothing, with the digest of nothing.
fn submission(work_type: &str, node: &str) -> Value {
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let extension = json!({"payload": {"length": 0, "sha256": nothing}}).to_string();
    json!({"command": "work", "subcommand": "submit", "node": node, "worktype": work_type, "netmesh": extension})
}

fn key_pair(world: &World) {
    let script = "openssl genrsa -out key.pem 2048 && openssl rsa -in key.pem -pubout -out key.pub";
    let made =
        Command::new("bash").args(["-c", script]).current_dir(world.path()).output().expect("bash runs");
    assert!(made.status.success(), "{made:?}");
}

/// A connection of another user's: the kernel asks who connects at that moment.
fn as_user(uid: u32, socket: PathBuf) -> UnixStream {
    let connect = move || {
        // SAFETY: the call takes three numbers. Unlike the function of the same name it changes this thread alone, which
        // ends with this closure.
        let changed = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, -1, uid, -1) };
        assert_eq!(changed, 0, "only root can be another user");
        UnixStream::connect(socket).expect("the socket lets everybody in")
    };
    thread::spawn(connect).join().expect("the thread ends")
}

#[test]
fn decisions_and_audit_lines_are_those_of_the_table() {
    let mut access = Access::new();
    let mut rows =
        TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
    let who: Vec<&str> = rows.next().expect("the head")[3..].to_vec();
    let mut asked = 0;
    for row in rows {
        let some = |cell: &'static str| (cell != "-").then_some(cell);
        let about = Row { action: row[0], work_type: some(row[1]), of: some(row[2]) };
        for (who, cell) in who.iter().zip(&row[3..]) {
            let Some(verdict) = Verdict::of(cell) else { continue };
            if *who == "other" && access.me != 0 {
                eprintln!("skipped: only root can be another user");
                continue;
            }
            access.ask(who, &about, &verdict);
            asked += 1;
        }
    }
    assert!(asked >= 100, "the table was read");
    let expected = std::mem::take(&mut access.expected);
    let found = access.audit();
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "line {at}");
    }
    assert_eq!(found.len(), expected.len());
    let mode = fs::metadata(access.audit_file()).expect("the audit").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_list_holds_what_may_be_seen_and_nothing_else() {
    let mut access = Access::new();
    let units: Vec<(&str, &str, String)> =
        [("me", "open"), ("a", "open"), ("b", "open"), ("me", "shut"), ("alice", "sealed"), ("me", "sealed")]
            .into_iter()
            .map(|(who, work_type)| (who, work_type, access.unit(who, work_type)))
            .collect();
    let ids = |wanted: &dyn Fn(&str, &str) -> bool| -> Vec<String> {
        let mut ids: Vec<_> =
            units.iter().filter(|(who, of, _)| wanted(who, of)).map(|(_, _, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    };
    type Sees = dyn Fn(&str, &str) -> bool;
    let cases: [(&str, &Sees); 3] = [
        ("me", &|_, _| true),
        ("a", &|who, of| who == "alice" || (who == "a" && of != "shut")),
        ("b", &|_, of| of == "sealed"),
    ];
    for (who, sees) in cases {
        let mut talk = access.talk(who);
        talk.say("work list");
        let listed: serde_json::Map<String, Value> = serde_json::from_str(&talk.line()).expect("an object");
        let mut listed: Vec<String> = listed.keys().cloned().collect();
        listed.sort_unstable();
        assert_eq!(listed, ids(sees), "{who}");
        // Page by page it is the same, and no page is short because of what is not in it.
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut request = json!({"command": "work", "subcommand": "list", "limit": 1});
            if let Some(after) = &after {
                request["after"] = json!(after);
            }
            talk.say(&request.to_string());
            let page: Value = serde_json::from_str(&talk.line()).expect("a page");
            paged.extend(
                page["units"]
                    .as_array()
                    .expect("units")
                    .iter()
                    .map(|unit| unit["UnitID"].as_str().expect("an id").to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            assert_eq!(page["units"].as_array().map(Vec::len), Some(1));
            after = Some(next.to_owned());
        }
        paged.sort_unstable();
        assert_eq!(paged, ids(sees), "{who}");
        // One by itself is there or refused.
        for (_, of, unit) in &units {
            talk.say(&format!("work list {unit}"));
            let said = talk.line();
            assert_eq!(said.starts_with("ERROR"), !paged.contains(unit), "{who} {of}: {said}");
        }
    }
    if access.me == 0 {
        let mut talk = access.talk("other");
        talk.say("work list");
        assert_eq!(
            talk.line(),
            format!("ERROR: uid:{OTHER} may not list: {NONE}; the `grants` of this node decide")
        );
    }
}

#[test]
fn a_node_submits_onward_for_another_one_only_where_a_grant_says_so() {
    let mut access = Access::new();
    let ask = |access: &Access, who: &str, signed: bool| {
        let mut request = submission("open", "a");
        if signed {
            request["signwork"] = json!("true");
        }
        let mut talk = access.talk(who);
        talk.say(&access.line(who, request));
        talk.line()
    };
    let refused = ask(&access, "a", false);
    assert_eq!(
        refused,
        format!(
            "ERROR: node:a may not sign work of type open for node a: {NONE}; the `grants` of this node decide"
        )
    );
    // b has the grant; the signature that it must bring for signed work it has not.
    let made = ask(&access, "b", false);
    let unit = made
        .strip_prefix("Work unit created with ID ")
        .and_then(|rest| rest.split('.').next())
        .expect("made");
    assert_eq!(ask(&access, "b", true), format!("ERROR: {UNSIGNED}"));
    let about = |unit| [Some("open"), unit, Some("a")];
    access.expect("a", "sign", about(None), &Verdict::None);
    access.expect("b", "sign", about(None), &Verdict::Granted(7));
    access.expect("b", "submit", about(Some(unit)), &Verdict::Granted(5));
    access.expect("b", "submit", about(None), &Verdict::Unsigned);
    let expected = std::mem::take(&mut access.expected);
    assert_eq!(access.audit(), expected);
}

#[test]
fn without_grants_a_node_still_signs_for_nobody() {
    let world = World::new();
    key_pair(&world);
    let (port, keys) = (free_port(), world.path().display().to_string());
    let signs = format!(
        "- work-signing: {keys}/key.pem\n- work-verification: {keys}/key.pub\n- audit: {keys}/audit\n"
    );
    let mut relay =
        world.start("b", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n{signs}"));
    let mut a = world.start("a", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n"));
    relay.wait_reach("a");
    a.wait_reach("b");
    let mut talk = a.talk();
    talk.say("connect b control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node b"));
    let mut request = submission("open", "c");
    request["signwork"] = json!("true");
    // A good token, as Receptor would want.
    let key = SigningConfig {
        private_key: world.path().join("key.pem"),
        key_id: None,
        token_expiration: std::time::Duration::from_secs(300),
    };
    let token = Signer::new(key, "a".to_owned()).sign("b", std::time::SystemTime::now()).expect("signed");
    request["signature"] = json!(token);
    talk.say(&request.to_string());
    let said = talk.line();
    assert!(said.starts_with("ERROR: node:a may not sign: this node signs for another node only"), "{said}");
    assert_eq!(relay.talk_once("work list"), "{}", "nothing was made");
    relay.stop();
    let audit = fs::read_to_string(world.path().join("audit")).expect("the audit");
    let denied: Value = serde_json::from_str(audit.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&denied["action"], &denied["decision"]), (&json!("sign"), &json!("denied")), "{audit}");
    assert!(!audit.contains(&token), "no token is written down");
}

#[test]
fn a_reload_changes_grants_and_audit_and_a_bad_one_changes_nothing() {
    let mut access = Access::new();
    let file = access.world.path().join("c.yml");
    let before = fs::read_to_string(&file).expect("the file");
    let cancel = |access: &Access| {
        let mut talk = access.talk("b");
        talk.say("status");
        talk.line()
    };
    assert!(cancel(&access).starts_with("ERROR: node:b may not status"));
    let reload = |text: &str, access: &Access| {
        fs::write(&file, text).expect("written");
        access.c.talk_once("reload")
    };
    let more = before.replace("/audit}", "/audit2}") + "    - {principal: \"node:b\", actions: [status]}\n";
    assert_eq!(reload(&more, &access), r#"{"Success":true}"#);
    assert!(cancel(&access).starts_with("{"));
    let bad = more.replace("actions: [status]", "actions: [everything]");
    assert!(reload(&bad, &access).contains("ERRORCODE 4"));
    assert!(cancel(&access).starts_with("{"), "what was good stays");
    let nowhere = more.replace("/audit2}", "/nowhere/audit}");
    let told = reload(&nowhere, &access);
    assert!(told.contains("ERRORCODE 4") && told.contains("cannot open the audit file"), "{told}");
    assert!(cancel(&access).starts_with("{"), "what was good stays");
    let actions = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(access.world.path().join(name)).expect("the audit");
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            format!("{} {}", line["action"].as_str().expect("text"), line["decision"].as_str().expect("text"))
        };
        text.lines().map(line).collect()
    };
    access.c.stop();
    assert_eq!(actions("audit"), ["status denied", "reload allowed"]);
    let allowed = ["status allowed", "reload allowed", "status allowed", "reload allowed", "status allowed"];
    assert_eq!(actions("audit2"), allowed);
}

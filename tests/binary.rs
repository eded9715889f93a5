//! The program itself: what it prints, how it is stopped, and how it fails.

mod client;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ringsock::proto::ws::Opcode;

use client::{Arrival, Client, connect};

/// How long a line of output or the end is waited for. It only passes when a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program while it runs. It is killed if a test ends before it does.
struct Program {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Program {
    /// Starts `command`.
    #[track_caller]
    fn start(command: &mut Command) -> Self {
        for name in ["RINGSOCK_WORKERS", "RINGSOCK_CONNECTIONS", "RINGSOCK_LOG"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// Starts the program on a port that the kernel chooses, with `arguments` in front.
    #[track_caller]
    fn serve(arguments: &[&str]) -> (Self, SocketAddr) {
        Self::serving(program(arguments).args(["--listen", "127.0.0.1:0"]))
    }

    /// Starts `command` and waits for the address that it serves.
    #[track_caller]
    fn serving(command: &mut Command) -> (Self, SocketAddr) {
        let mut this = Self::start(command);
        let line = this.line_with("ws://");
        let address = line.split("ws://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let address = address.parse().expect("an address and a port");
        this.line_with("Ctrl-C");
        (this, address)
    }

    /// Waits for a line of output with `text` in it.
    #[track_caller]
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no line with {text:?}: {error}; {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    #[track_caller]
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for the end; returns the status and what was printed since the start, and to stderr.
    #[track_caller]
    fn end(mut self) -> (ExitStatus, String, String) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; {:#?}", self.seen),
            }
        }
        let mut errors = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut errors).expect("errors are text");
        let status = self.child.wait().expect("it is our child");
        (status, self.seen.join("\n"), errors)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsock"));
    command.args(arguments);
    command
}

/// Expects the program to end with `code` and to say each of `words`.
#[track_caller]
fn check_failure(command: &mut Command, code: i32, words: &[&str]) {
    let (status, output, errors) = Program::start(command).end();
    assert_eq!(status.code(), Some(code), "{output}{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is missing in: {errors}");
    }
    assert_eq!(output, "", "what fails serves nothing");
    assert!(!errors.contains("panicked"), "{errors}");
}

/// Expects an ordered end after the signal `name`.
#[track_caller]
fn check_stop(arguments: &[&str], name: &str) {
    let (program, address) = Program::serve(arguments);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::open(address)).collect();
    for client in &mut clients {
        client.check_echo("Hello");
    }
    let mut undecided = connect(address);
    let mut refused = connect(address);
    refused.write_all(b"\0").expect("the server reads");
    assert!(refused.read_to_end(&mut Vec::new()).expect("a refusal and a FIN") > 0);
    drop(refused);
    program.signal(name);
    for client in &mut clients {
        client.expect(&Arrival::Close(Some(1001), "server stops".into()));
        client.say(Opcode::Close, b"\x03\xe9");
        client.expect(&Arrival::End);
    }
    // Whoever has not said what it wants is not waited for.
    assert_eq!(undecided.read_to_end(&mut Vec::new()).expect("a FIN"), 0);
    let (status, output, _) = program.end();
    assert!(status.success(), "{status}: {output}");
    let farewell =
        "stopped: 7 connections, 5 messages, 1 refused requests, 0 protocol errors, 0 pings, 0 connections silent";
    assert_eq!(output.lines().last(), Some(farewell));
}

#[test]
fn an_interrupt_closes_connections_and_ends_well() {
    check_stop(&[], "INT");
}

#[test]
fn a_request_to_terminate_closes_connections_and_ends_well() {
    check_stop(&["serve", "--workers", "3"], "TERM");
}

#[test]
fn the_second_signal_does_not_wait_for_anybody() {
    // Two programs with a peer each that never answers. Both would wait for as long; the one that
    // is told twice ends first. A busy machine may let both end, which decides nothing.
    let ended_first = (0..5).any(|_| {
        let (mut patient, patient_address) = Program::serve(&[]);
        let (hurried, hurried_address) = Program::serve(&[]);
        let mut clients = [Client::open(patient_address), Client::open(hurried_address)];
        for (program, client) in [&patient, &hurried].into_iter().zip(&mut clients) {
            program.signal("INT");
            client.expect(&Arrival::Close(Some(1001), "server stops".into()));
        }
        hurried.signal("TERM");
        let (status, output, _) = hurried.end();
        assert!(status.success(), "{status}: {output}");
        let ended_first = patient.is_running();
        assert!(matches!(clients[1].arrival(), Arrival::End | Arrival::Reset));
        drop(clients);
        assert!(patient.end().0.success());
        ended_first
    });
    assert!(ended_first, "the second signal has changed nothing");
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_ends_by_a_signal() {
    let (mut program, _) = Program::serve(&[]);
    drop(program.child.stderr.take());
    program.signal("TERM");
    for _ in 0..2_000 {
        if !program.is_running() {
            let status = program.child.wait().expect("it is our child");
            return assert_eq!(status.code(), Some(0));
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it goes on");
}

#[test]
fn the_banner_says_what_is_served_and_that_is_served() {
    let (mut program, address) =
        Program::serving(program(&["--workers", "1", "--connections", "10"]).env("RINGSOCK_LISTEN", "127.0.0.1:0"));
    let banner = program.seen.join("\n");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux shows its release");
    for part in [
        kernel.trim(),
        "workers   1,",
        "deflate   off",
        "up to 10 connections each",
        &format!("http://{address}/"),
        "capacity  10 connections: --connections=10 for the ring",
    ] {
        assert!(banner.contains(part), "{part:?} is missing in: {banner}");
    }
    let mut page = connect(address);
    page.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    page.read_to_string(&mut answer).expect("a page is text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("<html"), "{answer}");

    // The development profile takes what test suites send: far more than the default.
    let mut client = Client::open(address);
    let message = vec![7; 4 << 20];
    client.say(Opcode::Binary, &message);
    client.expect(&Arrival::Binary(message));
    drop((page, client));
    program.signal("INT");
    program.line_with("stopped: 2 connections, 1 messages");
    assert!(program.end().0.success());
}

#[test]
fn an_address_in_use_is_named_with_what_helps() {
    let other = TcpListener::bind("127.0.0.1:0").expect("loopback is ours");
    let address = other.local_addr().expect("it is bound").to_string();
    check_failure(&mut program(&["--listen", &address]), 1, &[&address, "in use", "ss -ltnp", "--listen"]);
    // A second server would silently share the port with the first otherwise.
    let (first, address) = Program::serve(&[]);
    let text = address.to_string();
    check_failure(&mut program(&["serve", "--listen", &text]), 1, &[&text, "in use", "ss -ltnp"]);
    Client::open(address).check_echo("still here");
    first.signal("INT");
    assert!(first.end().0.success());
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    check_failure(&mut program(&["--listen", "192.0.2.1:9001"]), 1, &["192.0.2.1:9001", "ip address", "--listen"]);
}

#[test]
fn options_that_are_not_possible_are_named_with_the_value_and_what_helps() {
    let listen = ["--listen", "127.0.0.1:0"];
    let check = |option: &[&str], words: &[&str]| check_failure(program(option).args(listen), 78, words);
    check(&["--workers", "0"], &["workers", "0 is not possible", "->", "at least one"]);
    check(&["--connections", "0"], &["connections", "0 is not possible", "->", "at least one"]);
    check(&["serve", "--connections", "999999999"], &["connections", "999999999", "->"]);
    check_failure(&mut program(&["--workers", "many"]), 2, &["many", "--workers"]);
    check_failure(&mut program(&["--listen", "9001"]), 2, &["9001", "--listen"]);
    check_failure(&mut program(&["--no-such-option"]), 2, &["--no-such-option"]);
}

/// The program under a limit on open files.
fn limited(open_files: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {open_files}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_ringsock")]);
    command.args(arguments);
    command
}

#[test]
fn more_connections_than_open_files_are_refused_with_the_limit() {
    let words =
        ["500 connections", "RLIMIT_NOFILE=564, which is 100", "ulimit -n 564", "at most 50 with --connections"];
    check_failure(&mut limited(100, &["--listen", "127.0.0.1:0", "--connections", "500"]), 78, &words);
}

#[test]
fn a_small_limit_on_open_files_gives_a_small_server_that_works() {
    for open_files in [40, 100] {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1"];
        let (program, address) = Program::serving(&mut limited(open_files, &arguments));
        // More than there is room for: they are served one after the other.
        for _ in 0..3 {
            let mut clients: Vec<Client> = (0..10).map(|_| Client::open(address)).collect();
            for client in &mut clients {
                client.check_echo("Hello");
            }
        }
        let waiting: Vec<_> =
            (0..200).map(|_| thread::spawn(move || Client::open(address).check_echo("Hello"))).collect();
        for thread in waiting {
            thread.join().expect("everybody is served");
        }
        program.signal("INT");
        assert!(program.end().0.success());
    }
}

#[test]
fn more_workers_than_processors_hold_more_and_the_banner_says_what_they_hold() {
    let arguments = ["--listen", "127.0.0.1:0", "--workers", "20"];
    let (program, address) = Program::serving(&mut limited(200, &arguments));
    let banner = program.seen.join("\n");
    let expect = "capacity  about 2,720 connections: RLIMIT_NOFILE=200 for each of 20 rings -> ";
    assert!(banner.contains(expect) && banner.contains("'ulimit -n "), "{banner}");
    // More than one ring holds, with fewer than may wait at each.
    let mut clients: Vec<Client> = (0..400).map(|_| Client::open(address)).collect();
    for client in &mut clients {
        client.check_echo("Hello");
    }
    drop(clients);
    program.signal("INT");
    let (status, output, _) = program.end();
    assert!(status.success(), "{status}: {output}");
    assert!(output.contains("stopped: 400 connections, 400 messages"), "{output}");
}

#[test]
fn the_doctor_names_the_kernel_and_finds_nothing_missing() {
    let (status, output, errors) = Program::start(&mut program(&["doctor"])).end();
    assert!(status.success(), "{output}{errors}");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux shows its release");
    let limits = ["capacity", "RLIMIT_NOFILE", "fs.file-max", "memory", "net.core.somaxconn"];
    for part in limits.iter().chain(&[kernel.trim(), "open files", "direct descriptors         work", "processors"]) {
        assert!(output.contains(part), "{part:?} is missing in: {output}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let (status, output, _) = Program::start(&mut program(&["--version"])).end();
    assert!(status.success());
    assert_eq!(output, format!("ringsock {}", env!("CARGO_PKG_VERSION")));
}

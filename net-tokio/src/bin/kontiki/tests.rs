//! The command line, as parsed and as documented.

use crate::cli::Cli;
use crate::target::duration;
use clap::{CommandFactory as _, Parser as _};
use std::time::Duration;

fn parses(line: &str) -> bool {
    let parsed = Cli::try_parse_from(line.split_whitespace());
    if let Err(error) = &parsed {
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
    parsed.is_ok()
}

#[test]
fn the_definition_of_the_commands_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_makes_sense_is_parsed() {
    for line in [
        "kontiki dev",
        "kontiki dev --members 5 --data d --restart --verbose",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --peers 1=a:1,2=b:2,3=c:3",
        "kontiki serve --id 4 --data d --listen [::1]:7 --join a:1 --advertise h:7 --log info,kontiki_net_tokio=debug",
        "kontiki serve --id 4 --data d --listen 127.0.0.1:0 --record f --record-bytes 1000",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --tls-ca a --tls-cert b --tls-key c",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --admin 127.0.0.1:0 --admin-token-file f",
        "kontiki put k v --at a:1,b:2 --timeout 500ms",
        "kontiki --at a:1 --format json put k -",
        "kontiki get k --via lease --raw",
        "kontiki delete k",
        "kontiki cas k --expect old new",
        "kontiki cas k --absent new",
        "kontiki scan",
        "kontiki scan a z --limit 3",
        "kontiki status --each",
        "kontiki members",
        "kontiki logs -n 3",
        "kontiki logs --from 3 --to 9",
        "kontiki add 4 --address a:1 --learner",
        "kontiki remove 4",
        "kontiki promote 4",
        "kontiki demote 4",
        "kontiki remove 4 --force",
        "kontiki cancel",
        "kontiki transfer",
        "kontiki transfer 2",
        "kontiki snapshot",
        "kontiki bench --clients 4 --connections 2 --payload 0 --time 2s --reads 50 --lease --warm-up 1s --no-session",
        "kontiki recover --id 1 --data d --force-new-cluster",
        "kontiki completions bash",
    ] {
        assert!(parses(line), "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "kontiki",
        "kontiki dev --members 0",
        "kontiki serve --id 0 --data d --listen 127.0.0.1:0",
        "kontiki serve --id 1 --data d --listen nowhere",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --peers 1=a:1 --join a:1",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --tls-ca a",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --record-bytes 1",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --admin 127.0.0.1:0",
        "kontiki put k",
        "kontiki put k v --timeout soon",
        "kontiki put k v --timeout 500",
        "kontiki put k v --at nonsense",
        "kontiki put k v --at a:1,b",
        "kontiki put k v --at a:0",
        "kontiki put k v --at a:70000",
        "kontiki put k v --at ::1:7",
        "kontiki put k v --at http://a:1",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --join nonsense",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --advertise nonsense",
        "kontiki serve --id 1 --data d --listen 127.0.0.1:0 --peers 1=nonsense",
        "kontiki add 4 --address nonsense",
        "kontiki put k v --format xml",
        "kontiki cas k new",
        "kontiki cas k --absent --expect old new",
        "kontiki logs --to 3",
        "kontiki logs -n 3 --from 3",
        "kontiki add 4",
        "kontiki add 4 --address a:1 --learner --witness",
        "kontiki bench --clients 0",
        "kontiki bench --connections 0",
        "kontiki bench --reads 101",
        "kontiki recover --id 1 --data d",
        "kontiki completions klingon",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn times_are_read_as_people_write_them() {
    for (text, millis) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1440m", 86_400_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "s",
        "0",
        "1",
        "500",
        "-1",
        "1h",
        "1.5s",
        "1441m",
        "99999999999999999999",
        "18446744073709551615m",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

/// Fails if the manual lacks a command or an option.
#[test]
fn the_manual_knows_every_command_and_every_option() {
    let manual = include_str!("../../../../docs/kontiki.md");
    let mut missing = Vec::new();
    let top = Cli::command();
    for command in top.get_subcommands().chain([&top]) {
        let name = command.get_name();
        if !manual.contains(&format!("`kontiki {name}")) && name != "kontiki" {
            missing.push(format!("`kontiki {name}`"));
        }
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            let Some(long) = option.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            if !manual.contains(&format!("--{long}")) {
                missing.push(format!("--{long} of {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/kontiki.md lacks {missing:?}");
}

/// Fails if the manual lacks an option of the configuration file.
#[test]
fn the_manual_knows_every_option_of_the_configuration() {
    let manual = include_str!("../../../../docs/kontiki.md");
    let options = serde_json::to_value(kontiki_net_tokio::node::NodeOptions::default()).unwrap();
    let mut count = 0;
    for (section, values) in options.as_object().unwrap() {
        assert!(manual.contains(section), "docs/kontiki.md lacks {section}");
        for name in values.as_object().into_iter().flat_map(|values| values.keys()) {
            count += 1;
            assert!(manual.contains(&format!("`{name}`")), "docs/kontiki.md lacks {section}.{name}");
        }
    }
    assert!(count > 40, "{count} options are not all");
}

/// Help fits a terminal, and every argument has a help text.
#[test]
fn help_fits_a_terminal() {
    let mut top = Cli::command().term_width(100);
    top.build();
    let names: Vec<_> = top.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(names.len() > 18, "{names:?}");
    for name in names {
        let command = top.find_subcommand_mut(&name).unwrap();
        for text in [command.render_help(), command.render_long_help()] {
            let text = text.to_string();
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{name}:\n{text}");
        }
        let silent: Vec<_> =
            command.get_arguments().filter(|argument| argument.get_help().is_none()).collect();
        assert!(silent.is_empty(), "{name}: {silent:?}");
    }
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("kontiki dev"), "{help}");
}

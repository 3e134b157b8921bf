//! `ssh` and `scp` through the engine: with our own client, or with `--local-ssh` (and always for `scp`) this computer's
//! programs with a proxy command.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::cli::target::{self, Machine, Place};
use crate::cli::{CopyArgs, Global, SshArgs, SshOptions};

use super::Context;
use super::apply::kind;
use super::failure::{Failure, code};

mod client;
mod shell;

/// Runs `ssh`.
pub async fn ssh(context: &Context, args: SshArgs) -> Result<(), Failure> {
    let (user, machine) = target::login(&args.target).map_err(Failure::usage)?;
    let way = Way::to(context, &machine, &args.options).await?;
    let user = login(user, &args.options);
    let text = args.command.clone().or_else(|| (!args.rest.is_empty()).then(|| args.rest.join(" ")));
    // Arguments for the program ask for the program.
    if !args.options.local_ssh.unwrap_or(!args.options.ssh_args.is_empty()) {
        return own(context, way, user, text.as_deref()).await;
    }
    let mut command = Command::new("ssh");
    command.args(way.options()?).arg("-p").arg(args.options.port.to_string());
    command.arg("-l").arg(user).arg("--").arg(&way.host);
    command.args(text);
    finish(command, "ssh")
}

/// Logs in with our own client.
async fn own(context: &Context, way: Way, user: String, command: Option<&str>) -> Result<(), Failure> {
    let session = &context.session;
    let stream = session.port_forward(&way.namespace, &way.name, way.options.port).await?;
    let login = client::Login {
        user,
        key_alias: way.key_alias,
        identity: way.options.identity_file,
        known_hosts: way.options.known_hosts,
    };
    let handle = client::open(stream, &login).await?;
    match shell::run(&handle, command).await? {
        0 => Ok(()),
        code => Err(Failure::quiet(code)),
    }
}

/// Runs `scp`.
pub async fn scp(context: &Context, args: CopyArgs) -> Result<(), Failure> {
    let (source, target) =
        (target::place(&args.source).map_err(Failure::usage)?, target::place(&args.target).map_err(Failure::usage)?);
    let machine = match (&source, &target) {
        (Place::Remote { machine, .. }, Place::Local(_)) | (Place::Local(_), Place::Remote { machine, .. }) => machine,
        _ => return Err(Failure::usage("exactly one side must be in a machine: [USER@]VM:FILE")),
    };
    let way = Way::to(context, machine, &args.options).await?;
    let mut command = Command::new("scp");
    command.args(way.options()?).arg("-P").arg(args.options.port.to_string());
    if args.recursive {
        command.arg("-r");
    }
    if args.preserve {
        command.arg("-p");
    }
    command.arg("--");
    for place in [source, target] {
        command.arg(match place {
            // A name with a colon would look like a host.
            Place::Local(path) if !path.starts_with('/') && !path.starts_with("./") => format!("./{path}"),
            Place::Local(path) => path,
            Place::Remote { user, path, .. } => format!("{}@{}:{path}", login(user, &args.options), way.host),
        });
    }
    finish(command, "scp")
}

fn login(user: Option<String>, options: &SshOptions) -> String {
    let here = || std::env::var("USER").ok().filter(|u| !u.is_empty());
    user.or_else(|| options.username.clone()).or_else(here).unwrap_or_else(|| "root".into())
}

/// How to reach a machine.
struct Way {
    name: String,
    namespace: String,
    /// `NAME.NAMESPACE`.
    host: String,
    /// Name under which the host key is kept: a machine made anew under the same name is another host.
    key_alias: String,
    proxy: String,
    options: SshOptions,
}

impl Way {
    async fn to(context: &Context, machine: &Machine, options: &SshOptions) -> Result<Self, Failure> {
        let namespace = machine.namespace.as_deref().unwrap_or_else(|| context.default_namespace());
        // Told here, a machine that does not exist is told clearly.
        let object = context.session.get(kind("virtualmachines")?, Some(namespace), &machine.name).await?;
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        let host = format!("{}.{namespace}", machine.name);
        let exe = std::env::current_exe()?;
        let exe = exe.to_str().ok_or_else(|| Failure::new("this program's path is not UTF-8"))?;
        let proxy = proxy_command(exe, &context.global, &host, options.port);
        Ok(Self {
            name: machine.name.clone(),
            namespace: namespace.to_owned(),
            key_alias: format!("{host}.{uid}"),
            host,
            proxy,
            options: options.clone(),
        })
    }

    fn options(&self) -> Result<Vec<OsString>, Failure> {
        let mut list: Vec<OsString> = vec![
            "-o".into(),
            format!("ProxyCommand={}", self.proxy).into(),
            "-o".into(),
            format!("HostKeyAlias={}", self.key_alias).into(),
            // The way there is the engine's own; a first key cannot be forged on it.
            "-o".into(),
            "StrictHostKeyChecking=accept-new".into(),
        ];
        if let Some(file) = &self.options.known_hosts {
            let path = file.to_str().ok_or_else(|| Failure::usage("--known-hosts is not UTF-8"))?;
            list.push("-o".into());
            list.push(format!("UserKnownHostsFile=\"{path}\"").into());
        }
        if let Some(file) = &self.options.identity_file {
            list.push("-i".into());
            list.push(file.into());
        }
        list.extend(self.options.ssh_args.iter().flat_map(|a| a.split_whitespace()).map(Into::into));
        Ok(list)
    }
}

/// The proxy command; secrets are never in it, and every word is quoted for the shell and for ssh's own `%`.
fn proxy_command(exe: &str, global: &Global, host: &str, port: u16) -> String {
    let mut words = vec![exe.to_owned()];
    for (flag, value) in [("--context", &global.context), ("--host", &global.host)] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            words.push(format!("{flag}={value}"));
        }
    }
    if let Some(file) = &global.kubeconfig {
        words.push(format!("--kubeconfig={}", file.display()));
    }
    words.extend(["port-forward".into(), "--stdio=true".into(), "--".into(), host.into(), port.to_string()]);
    words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let word = word.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Runs the program in our place; its exit code is ours.
fn finish(mut command: Command, program: &str) -> Result<(), Failure> {
    let status = command.status().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(format!("the program \"{program}\" is not installed\nInstall openssh-client."))
        }
        _ => Failure::new(format!("cannot run {program}: {e}")),
    })?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(n), _) => Err(Failure::quiet(u8::try_from(n).unwrap_or(code::FAILED))),
        (None, _) => Err(Failure::quiet(code::INTERRUPTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_command_survives_the_shell() {
        let global = Global { context: Some("it's 100%".into()), ..Global::default() };
        let text = proxy_command("/usr/bin/vmdeck", &global, "a.default", 22);
        assert_eq!(text, r"/usr/bin/vmdeck '--context=it'\''s 100%%' port-forward --stdio=true -- a.default 22");
    }
}

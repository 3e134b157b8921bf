//! Settings and directories. Knows nothing of the rest of the program.

use std::path::{Path, PathBuf};

mod settings;

pub use settings::{Accel, HostSettings, Settings, SettingsError, UiSettings};

/// Where this user's vmdeck keeps its things. With `VMDECK_HOME=DIR` everything lives under `DIR`; root gets
/// the system directories, anyone else the XDG ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Disks, images, the store, records of running machines: survives reboots.
    pub state: PathBuf,
    /// Sockets and the daemon's lock: gone after a reboot.
    pub runtime: PathBuf,
    /// Discovery answers and names shown before data.
    pub cache: PathBuf,
    /// `config.toml`, `keymap.toml`, `themes/`.
    pub config: PathBuf,
}

/// What [`Paths::resolve`] looks at, so that it can be tested without an environment.
#[derive(Debug, Clone, Default)]
pub struct PathsEnv {
    /// Value of `VMDECK_HOME`.
    pub vmdeck_home: Option<PathBuf>,
    /// Effective uid 0.
    pub is_root: bool,
    /// Value of `XDG_RUNTIME_DIR`.
    pub xdg_runtime: Option<PathBuf>,
}

impl PathsEnv {
    /// The environment of this process.
    pub fn from_process() -> Self {
        Self {
            vmdeck_home: std::env::var_os("VMDECK_HOME").filter(|v| !v.is_empty()).map(PathBuf::from),
            is_root: rustix::process::geteuid().is_root(),
            xdg_runtime: std::env::var_os("XDG_RUNTIME_DIR").filter(|v| !v.is_empty()).map(PathBuf::from),
        }
    }
}

impl Paths {
    /// The directories for this environment. A relative `VMDECK_HOME` is taken from the current directory.
    pub fn resolve(env: &PathsEnv) -> std::io::Result<Self> {
        if let Some(home) = &env.vmdeck_home {
            let home = std::path::absolute(home)?;
            return Ok(Self::under(&home));
        }
        if env.is_root {
            return Ok(Self {
                state: "/var/lib/vmdeck".into(),
                runtime: "/run/vmdeck".into(),
                cache: "/var/cache/vmdeck".into(),
                config: "/etc/vmdeck".into(),
            });
        }
        let dirs = directories::ProjectDirs::from("", "", "vmdeck").ok_or_else(|| {
            std::io::Error::other("no home directory: set HOME, or VMDECK_HOME to a folder of your choice")
        })?;
        let state = dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_path_buf();
        let runtime = match &env.xdg_runtime {
            Some(dir) => dir.join("vmdeck"),
            None => state.join("run"),
        };
        Ok(Self { state, runtime, cache: dirs.cache_dir().to_path_buf(), config: dirs.config_dir().to_path_buf() })
    }

    /// Everything under one folder.
    pub fn under(home: &Path) -> Self {
        Self {
            state: home.join("state"),
            runtime: home.join("run"),
            cache: home.join("cache"),
            config: home.join("config"),
        }
    }

    /// The API's unix socket.
    pub fn api_socket(&self) -> PathBuf {
        self.runtime.join("api.sock")
    }

    /// Held by the one daemon of this state directory.
    pub fn lock_file(&self) -> PathBuf {
        self.state.join("host.lock")
    }

    /// The SQLite database.
    pub fn store_file(&self) -> PathBuf {
        self.state.join("store.db")
    }

    /// The daemon's log.
    pub fn host_log(&self) -> PathBuf {
        self.state.join("host.log")
    }

    /// Disks and images.
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// Records of machines (what adoption needs), console history.
    pub fn machines(&self) -> PathBuf {
        self.state.join("machines")
    }

    /// The settings file.
    pub fn settings_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_puts_everything_under_one_folder() {
        let env = PathsEnv { vmdeck_home: Some("/h".into()), is_root: true, ..PathsEnv::default() };
        let paths = Paths::resolve(&env).unwrap();
        for p in [&paths.state, &paths.runtime, &paths.cache, &paths.config] {
            assert!(p.starts_with("/h"), "{p:?}");
        }
    }

    #[test]
    fn root_gets_the_system_directories() {
        let env = PathsEnv { is_root: true, ..PathsEnv::default() };
        assert_eq!(Paths::resolve(&env).unwrap().state, Path::new("/var/lib/vmdeck"));
    }
}

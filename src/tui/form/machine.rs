//! The create-machine form.

use base64::Engine as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::crypt::{HASH_BYTES, hash_password};
use super::field::{Choice, Field};
use super::{Form, Problem, Sheet, Values};
use crate::types::quantity::{human_bytes, parse_bytes};

/// Most bytes of user data that fit into the machine's own manifest.
const USER_DATA_BYTES: usize = 2048;

const API: &str = "virtualization.deckhouse.io/v1alpha2";

/// An image to make a disk from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChoice {
    /// `VirtualImage` or `ClusterVirtualImage`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Size of the disk it needs, in bytes, if known.
    pub bytes: Option<u64>,
}

/// A disk that no machine uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskChoice {
    /// Name.
    pub name: String,
    /// Size as in its status, for example `2Gi`.
    pub size: String,
}

/// What the form offers and must know.
#[derive(Debug, Clone, Default)]
pub struct CreateContext {
    /// The namespace to create in.
    pub namespace: String,
    /// Namespaces to choose from; empty if they cannot be listed.
    pub namespaces: Vec<String>,
    /// Names of classes; `host` is the suggestion, else the first.
    pub classes: Vec<String>,
    /// Images that are ready, of the namespace and the cluster.
    pub images: Vec<ImageChoice>,
    /// Disks of the namespace that no machine uses.
    pub disks: Vec<DiskChoice>,
    /// Machines that exist in the namespace.
    pub taken: Vec<String>,
    /// Disks that exist in the namespace.
    pub taken_disks: Vec<String>,
    /// Random bits for the salt of a password hash.
    pub random: [u8; 12],
}

/// Opens the form.
pub fn create_machine(context: CreateContext) -> Form {
    let plain = |list: &[String]| list.iter().map(Choice::plain).collect::<Vec<_>>();
    let name = free_name("vm", &context.taken);
    let namespace = if context.namespaces.is_empty() {
        Field::text("namespace", "Namespace", "where the machine lives", &context.namespace)
    } else {
        Field::choice(
            "namespace",
            "Namespace",
            "where the machine lives",
            plain(&context.namespaces),
            &context.namespace,
        )
    };
    let class = if context.classes.is_empty() {
        Field::text("class", "Class", "name of a VirtualMachineClass: the CPU model and the sizing rules", "host")
    } else {
        let help = "the CPU model and the sizing rules; left and right choose, letters find";
        Field::choice("class", "Class", help, plain(&context.classes), "host")
    };
    let images = context
        .images
        .iter()
        .map(|i| {
            let size = i.bytes.map(|b| format!(", {}", human_bytes(b))).unwrap_or_default();
            let short = if i.kind == "ClusterVirtualImage" { "cvi" } else { "vi" };
            Choice::labelled(format!("{}/{}", i.kind, i.name), format!("{} ({short}{size})", i.name))
        })
        .collect();
    let disks = context.disks.iter().map(|d| Choice::labelled(&d.name, format!("{} ({})", d.name, d.size))).collect();
    let source = match (context.images.is_empty(), context.disks.is_empty()) {
        (false, _) => "image",
        (true, false) => "existing",
        (true, true) => "blank",
    };
    let policy = |value: &str, text: &str| Choice::labelled(value, text);
    let fields = vec![
        Field::text("name", "Name", "lower-case letters, digits and dashes; also the guest's host name", name),
        namespace,
        class,
        Field::text("cores", "CPU cores", "how many the guest sees", "1"),
        Field::text("fraction", "Core fraction", "the share of each core it is sure to get, 1% to 100%", "100%"),
        Field::text("memory", "Memory", "a size such as 512Mi or 2Gi", "1Gi"),
        Field::choice(
            "policy",
            "Run policy",
            "what happens when the guest stops or crashes",
            vec![
                policy("AlwaysOnUnlessStoppedManually", "on, until stopped by hand"),
                policy("AlwaysOn", "always on"),
                policy("Manual", "manual: started and stopped by hand"),
                policy("AlwaysOff", "always off"),
            ],
            "AlwaysOnUnlessStoppedManually",
        ),
        Field::choice(
            "start",
            "Start now",
            "with the manual policy, whether it is started after it is made",
            vec![Choice::plain("yes"), Choice::plain("no")],
            "yes",
        ),
        Field::choice(
            "source",
            "Disk",
            "what the machine boots from",
            vec![
                Choice::labelled("image", "a new one from an image"),
                Choice::labelled("blank", "a new blank one"),
                Choice::labelled("existing", "one that is there"),
            ],
            source,
        ),
        Field::choice("image", "Image", "the image the disk is a copy of; letters find", images, ""),
        Field::choice("disk", "Which disk", "a disk that no machine uses", disks, ""),
        Field::text("size", "Disk size", "a size such as 10Gi; empty takes the image's own", ""),
        Field::text("user", "User", "made by cloud-init at the first start; empty makes none", "cloud"),
        Field::secret("password", "Password", "for the console; only its hash leaves this form"),
        Field::text("key", "SSH key", "a public key (ssh-ed25519 AAAA...); several may follow one another", ""),
    ];
    let title = "Create a virtual machine";
    Form::new(title, "create", fields, Box::new(MachineSheet { context, hashed: Mutex::default() }))
}

/// `base-1`, `base-2`, ...: the first that is free.
pub(super) fn free_name(base: &str, taken: &[String]) -> String {
    (1..=taken.len() + 1).map(|n| format!("{base}-{n}")).find(|name| !taken.contains(name)).unwrap_or_default()
}

struct MachineSheet {
    context: CreateContext,
    /// The last password and its hash: hashing takes thousands of rounds.
    hashed: Mutex<Option<(String, String)>>,
}

/// A Kubernetes name of at most `most` characters, for the field `field`.
pub(super) fn name_problem(field: &'static str, name: &str, most: usize) -> Option<Problem> {
    let blocks = |message: String| Some(Problem { field, message, blocks: true });
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() {
        return blocks("a name is needed".into());
    }
    if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        return blocks(format!("`{c}` cannot be in a name: lower-case letters, digits and dashes can"));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return blocks("a name begins and ends with a letter or a digit".into());
    }
    if name.len() > most {
        return blocks(format!("{} characters; a name has at most {most}", name.len()));
    }
    None
}

/// A size that is needed, or may be left out.
pub(super) fn size_problem(field: &'static str, text: &str, needed: bool) -> Option<Problem> {
    let blocks = |message: &str| Some(Problem { field, message: message.into(), blocks: true });
    match (text.is_empty(), parse_bytes(text)) {
        (true, _) if needed => blocks("a size is needed, for example 10Gi"),
        (true, _) => None,
        (false, None) => blocks("not a size: write for example 512Mi, 2Gi or 10G"),
        (false, Some(0)) => blocks("nothing fits into 0 bytes"),
        (false, Some(_)) => None,
    }
}

impl MachineSheet {
    fn disk_name(&self, values: Values<'_>) -> String {
        match values.get("source") {
            "existing" => values.get("disk").to_owned(),
            _ => format!("{}-root", values.get("name")),
        }
    }

    fn image(&self, values: Values<'_>) -> Option<&ImageChoice> {
        let (kind, name) = values.get("image").split_once('/')?;
        self.context.images.iter().find(|i| i.kind == kind && i.name == name)
    }

    fn user_data(&self, values: Values<'_>, preview: bool) -> Option<String> {
        let user = values.get("user");
        if user.is_empty() {
            return None;
        }
        let password = values.get("password");
        let mut account = Map::new();
        account.insert("name".into(), user.into());
        if !password.is_empty() {
            account.insert("passwd".into(), self.hash(password, preview).into());
            account.insert("lock_passwd".into(), false.into());
        }
        // Every distribution has a shell at this path; bash is not everywhere.
        account.insert("shell".into(), "/bin/sh".into());
        account.insert("sudo".into(), "ALL=(ALL) NOPASSWD:ALL".into());
        let keys = split_keys(values.get("key"));
        if !keys.is_empty() {
            account.insert("ssh_authorized_keys".into(), keys.into());
        }
        let mut config = Map::new();
        if !password.is_empty() {
            config.insert("ssh_pwauth".into(), true.into());
        }
        config.insert("users".into(), Value::Array(vec![Value::Object(account)]));
        Some(format!("#cloud-config\n{}", crate::tui::editor::yaml::render(&Value::Object(config))))
    }

    fn hash(&self, password: &str, preview: bool) -> String {
        let mut hashed = self.hashed.lock();
        match &*hashed {
            Some((known, hash)) if known == password => hash.clone(),
            // A text of the hash's length that needs the same quoting.
            _ if preview => format!("$6${}", "x".repeat(HASH_BYTES - 3)),
            _ => {
                let hash = hash_password(password, self.context.random);
                *hashed = Some((password.to_owned(), hash.clone()));
                hash
            }
        }
    }

    fn login_problems(&self, values: Values<'_>) -> Vec<Problem> {
        let mut out = Vec::new();
        let user = values.get("user");
        if user.is_empty() {
            let message = "without a user nobody can log in, unless the disk brings one".to_owned();
            out.push(Problem { field: "user", message, blocks: false });
            return out;
        }
        let first = user.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = user.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
        if !first || !rest || user.len() > 32 {
            let message = "a user name has at most 32 lower-case letters, digits, - and _".to_owned();
            out.push(Problem { field: "user", message, blocks: true });
        }
        let key = values.get("key");
        if values.get("password").is_empty() && key.is_empty() {
            let message = "without a password or an SSH key this user cannot log in".to_owned();
            out.push(Problem { field: "password", message, blocks: false });
        }
        if let Some(bad) = split_keys(key).iter().find(|k| !is_public_key(k)) {
            let shown: String = bad.chars().take(20).collect();
            let message = if bad.contains("PRIVATE KEY") {
                "this is a private key: keep it to yourself and give the public one (*.pub)".to_owned()
            } else {
                format!("`{shown}` is no public key: it begins with ssh-ed25519, ssh-rsa or ecdsa-sha2-...")
            };
            out.push(Problem { field: "key", message, blocks: true });
        }
        out
    }
}

const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Public keys that follow one another on a line.
fn split_keys(text: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match keys.last_mut().filter(|_| !KEY_TYPES.contains(&word)) {
            Some(key) => {
                key.push(' ');
                key.push_str(word);
            }
            None => keys.push(word.to_owned()),
        }
    }
    keys
}

fn is_public_key(key: &str) -> bool {
    let mut words = key.split(' ');
    let kind = words.next().unwrap_or_default();
    let blob = words.next().and_then(|b| base64::engine::general_purpose::STANDARD.decode(b).ok());
    // The blob repeats the type, after its length.
    KEY_TYPES.contains(&kind) && blob.is_some_and(|b| b.get(4..4 + kind.len()) == Some(kind.as_bytes()))
}

impl Sheet for MachineSheet {
    fn shows(&self, field: &str, values: Values<'_>) -> bool {
        match field {
            "image" => values.get("source") == "image",
            "disk" => values.get("source") == "existing",
            "size" => values.get("source") != "existing",
            "start" => values.get("policy") == "Manual",
            "password" | "key" => !values.get("user").is_empty(),
            _ => true,
        }
    }

    fn problems(&self, values: Values<'_>) -> Vec<Problem> {
        let blocks = |field, message: String| Problem { field, message, blocks: true };
        let mut out = Vec::new();
        let name = values.get("name");
        let here = values.get("namespace") == self.context.namespace;
        out.extend(name_problem("name", name, 63));
        if here && self.context.taken.iter().any(|t| t == name) {
            out.push(blocks("name", format!("there is a machine {name} already")));
        }
        out.extend(name_problem("namespace", values.get("namespace"), 63));
        if values.get("class").is_empty() {
            out.push(blocks("class", "a class is needed".into()));
        }
        if !matches!(values.get("cores").parse::<u32>(), Ok(1..=248)) {
            out.push(blocks("cores", "a whole number from 1 to 248".into()));
        }
        if !crate::types::quantity::parse_percent(values.get("fraction")).is_some_and(|p| (1..=100).contains(&p)) {
            out.push(blocks("fraction", "a percentage from 1% to 100%, such as 10%".into()));
        }
        out.extend(size_problem("memory", values.get("memory"), true));
        match values.get("source") {
            "image" => {
                if self.image(values).is_none() {
                    let text = "no image is ready; make a blank disk, or add an image first (:vi)";
                    out.push(blocks("image", text.into()));
                }
                out.extend(size_problem("size", values.get("size"), false));
                let needed = self.image(values).and_then(|i| i.bytes);
                if let (Some(size), Some(needed)) = (parse_bytes(values.get("size")), needed)
                    && size < needed
                {
                    out.push(blocks("size", format!("the image needs at least {}", human_bytes(needed))));
                }
            }
            "blank" => out.extend(size_problem("size", values.get("size"), true)),
            _ if values.get("disk").is_empty() => out.push(blocks("disk", "every disk is in use".into())),
            _ => {}
        }
        let disk = self.disk_name(values);
        if here && values.get("source") != "existing" && self.context.taken_disks.contains(&disk) {
            let text = format!("there is a disk {disk} already: take it (Disk: one that is there) or another name");
            out.push(blocks("name", text));
        }
        out.extend(self.login_problems(values));
        out
    }

    fn manifests(&self, values: Values<'_>, preview: bool) -> Vec<Value> {
        let (name, namespace) = (values.get("name"), values.get("namespace"));
        let metadata = |name: &str| json!({"name": name, "namespace": namespace});
        let mut out = Vec::new();
        let disk = self.disk_name(values);
        if values.get("source") != "existing" {
            let mut spec = Map::new();
            if let Some(image) = self.image(values).filter(|_| values.get("source") == "image") {
                let reference = json!({"kind": image.kind, "name": image.name});
                spec.insert("dataSource".into(), json!({"type": "ObjectRef", "objectRef": reference}));
            }
            if !values.get("size").is_empty() {
                spec.insert("persistentVolumeClaim".into(), json!({"size": values.get("size")}));
            }
            out.push(json!({"apiVersion": API, "kind": "VirtualDisk", "metadata": metadata(&disk), "spec": spec}));
        }
        let mut spec = json!({
            "virtualMachineClassName": values.get("class"),
            "runPolicy": values.get("policy"),
            "cpu": {"cores": values.get("cores").parse::<u32>().unwrap_or_default(),
                "coreFraction": values.get("fraction")},
            "memory": {"size": values.get("memory")},
            "blockDeviceRefs": [{"kind": "VirtualDisk", "name": disk}],
        });
        match self.user_data(values, preview) {
            Some(text) if text.len() <= USER_DATA_BYTES => {
                spec["provisioning"] = json!({"type": "UserData", "userData": text});
            }
            Some(text) => {
                let secret = format!("{name}-cloud-init");
                let data = base64::engine::general_purpose::STANDARD.encode(text);
                spec["provisioning"] =
                    json!({"type": "UserDataRef", "userDataRef": {"kind": "Secret", "name": secret}});
                out.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(&secret),
                    "type": "provisioning.virtualization.deckhouse.io/cloud-init", "data": {"userData": data}}));
            }
            None => {}
        }
        out.push(json!({"apiVersion": API, "kind": "VirtualMachine", "metadata": metadata(name), "spec": spec}));
        if values.get("policy") == "Manual" && values.get("start") == "yes" {
            // A name of its own: an operation of an earlier machine of this name may still be there.
            let suffix: String = self.context.random.iter().take(4).map(|b| format!("{b:02x}")).collect();
            out.push(json!({"apiVersion": API, "kind": "VirtualMachineOperation",
                "metadata": metadata(&format!("{name}-start-{suffix}")),
                "spec": {"type": "Start", "virtualMachineName": name}}));
        }
        out
    }

    fn field_of(&self, path: &str) -> Option<&'static str> {
        [
            ("metadata.name", "name"),
            ("metadata.namespace", "namespace"),
            ("spec.virtualMachineClassName", "class"),
            ("spec.cpu.coreFraction", "fraction"),
            ("spec.cpu", "cores"),
            ("spec.memory", "memory"),
            ("spec.runPolicy", "policy"),
            ("spec.dataSource", "image"),
            ("spec.persistentVolumeClaim", "size"),
            ("spec.blockDeviceRefs", "source"),
            ("spec.provisioning", "user"),
        ]
        .into_iter()
        .find_map(|(prefix, field)| path.starts_with(prefix).then_some(field))
    }

    fn summary(&self, values: Values<'_>) -> String {
        match self.user_data(values, true).map(|text| text.len()) {
            None => "no cloud-init".into(),
            Some(n) if n <= USER_DATA_BYTES => format!("cloud-init: {n} of {USER_DATA_BYTES} bytes"),
            Some(n) => {
                let name = values.get("name");
                format!("cloud-init: {n} bytes, more than {USER_DATA_BYTES}: it goes into the Secret {name}-cloud-init")
            }
        }
    }
}

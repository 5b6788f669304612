//! The container that a process ran in, as the path of its cgroup names it.
//!
//! In: a path in the cgroup hierarchy, of version 1 or 2. Out: the runtime, the
//! container's id and the pod, as far as the path has them. Runtimes name cgroups by
//! habit and not by a specification; these are recognized:
//!
//! ```text
//! PREFIX-ID.scope, PREFIX-ID   docker, cri-containerd, nerdctl, crio, libpod, libpod-payload
//! SLICE:PREFIX:ID              the same, written into a cgroupfs by the name for systemd
//! docker/ID, POD/ID, ID        ID alone; POD is a pod of Kubernetes, of any runtime
//! machine-NAME.scope, systemd-nspawn@NAME.service, lxc/NAME, lxc.payload/NAME, lxc.payload.NAME
//! ```
//!
//! An ID has 64 hexadecimal digits. Of containers in one another it is the innermost one.
//! Whoever may make cgroups can give them such names, so nothing that must be safe may
//! depend on the result.

/// What the path of a cgroup says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// `docker`, `containerd`, `cri-o`, `podman`, `systemd-nspawn` or `lxc`; `None` if the
    /// path has the id alone.
    pub runtime: Option<&'static str>,
    /// The whole id, or the name for `systemd-nspawn` and `lxc`.
    pub id: String,
    /// The UID of the pod, as Kubernetes writes it.
    pub pod: Option<String>,
}

/// What precedes an id, and whose it is.
const PREFIXES: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
    ("libpod-payload", "podman"),
];

/// The innermost container of a path; `None` if it has none that is known.
#[must_use]
pub fn of(cgroup: &[u8]) -> Option<Container> {
    let path = String::from_utf8_lossy(cgroup);
    let names: Vec<&str> = path.split('/').collect();
    let name = |at: usize| names.get(at).copied().unwrap_or_default();
    for at in (1..names.len()).rev() {
        // What looks after a container is none itself.
        if name(at + 1) == "supervisor" {
            continue;
        }
        let above = name(at - 1);
        let Some((runtime, id)) = by_id(name(at), above).or_else(|| by_name(name(at), above))
        else {
            continue;
        };
        let pod = names[..=at].iter().rev().find_map(|name| pod(name));
        return Some(Container { runtime, id, pod });
    }
    None
}

fn by_id(name: &str, above: &str) -> Option<(Option<&'static str>, String)> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = match name.rsplit_once([':', '-']) {
        Some((before, id)) => (before.rsplit(':').next(), id),
        None => (Some(above).filter(|above| *above == "docker"), name),
    };
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if id.len() != 64 || !id.bytes().all(is_digit) {
        return None;
    }
    let known = |prefix| PREFIXES.iter().find(|(known, _)| *known == prefix);
    let runtime = match prefix {
        Some(prefix) => Some(known(prefix)?.1),
        // A pod of podman is none.
        None if above == "libpod_parent" => return None,
        None => None,
    };
    Some((runtime, id.to_string()))
}

fn by_name(name: &str, above: &str) -> Option<(Option<&'static str>, String)> {
    if matches!(above, "lxc" | "lxc.payload") {
        return Some((Some("lxc"), name.to_string()));
    }
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some((Some("lxc"), name.to_string()));
    }
    let unit = |start, end| name.strip_prefix(start)?.strip_suffix(end);
    let name = unit("machine-", ".scope").or_else(|| unit("systemd-nspawn@", ".service"))?;
    // As unit names have it: systemd.unit(5).
    let name = name.replace("\\x2d", "-");
    // libvirt's own: a virtual machine, or a container that has no name here.
    let is_other = ["qemu-", "lxc-", "libpod_pod_"]
        .iter()
        .any(|other| name.starts_with(other));
    (!is_other).then_some((Some("systemd-nspawn"), name))
}

/// The UID in `podUID` or `kubepods-burstable-podUID.slice`: that of a pod of the API, or of
/// a static one, which is a sum without dashes.
fn pod(name: &str) -> Option<String> {
    let name = name.split(".slice").next()?;
    let (before, uid) = name.rsplit_once("pod")?;
    let uid = uid.replace('_', "-");
    let is_part = |byte: u8| byte == b'-' || byte.is_ascii_hexdigit();
    let is_uid = matches!(uid.len(), 32 | 36) && uid.bytes().all(is_part);
    (is_uid && (before.is_empty() || before.ends_with('-'))).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "";

    #[track_caller]
    fn check(path: &str, runtime: &str, id: &str, pod: &str) {
        let found = of(path.as_bytes());
        let found = found.expect(path);
        assert_eq!(found.runtime.unwrap_or(NONE), runtime, "{path}");
        assert_eq!(found.id, id, "{path}");
        assert_eq!(found.pod.as_deref().unwrap_or(NONE), pod, "{path}");
    }

    /// As people have reported them: ctrsploit #280, neuvector's cgroup_test.go.
    #[test]
    fn docker() {
        let id = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
        check(&format!("/docker/{id}"), "docker", id, NONE);
        check(&format!("/docker/{id}/init.scope"), "docker", id, NONE);
        let id = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
        let scope = format!("/system.slice/docker-{id}.scope");
        check(&scope, "docker", id, NONE);
        let id = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
        check(&format!("/{id}"), NONE, id, NONE);
    }

    /// vcuda-controller #19, opentelemetry-java #4507, apm-agent-nodejs #3550, traceloop #34,
    /// runc #4620; netdata #4868 has a static pod.
    #[test]
    fn kubernetes() {
        let id = "9e073649debeec6d511391c9ec7627ee67ce3a3fb508b0fa0437a97f8e58ba98";
        let slices = "/kubepods.slice/kubepods-pod019c1fe8_0d92_4aa0_b61c_4df58bdde71c.slice";
        let pod = "019c1fe8-0d92-4aa0-b61c-4df58bdde71c";
        let path = format!("{slices}/cri-containerd-{id}.scope");
        check(&path, "containerd", id, pod);
        let id = "ee4b20e90ac7f42a10bd004d05646b13d8ab5e2c5e7cbc01abf8006bac016459";
        let slice = "kubepods-besteffort-pod0125ec2f_b64a_4868_8f5b_94b56cbab864.slice";
        let pod = "0125ec2f-b64a-4868-8f5b-94b56cbab864";
        let path = format!("/{slice}:cri-containerd:{id}");
        check(&path, "containerd", id, pod);
        let path = format!("/system.slice/containerd.service/{slice}:cri-containerd:{id}");
        check(&path, "containerd", id, pod);
        let id = "f75aff467357c5d0ddd47cb7ad87ed38746e018992586ff66198a5c11218f634";
        let pod = "91a8fc3a-0ecf-48b4-81bf-78a7275d348c";
        let path = format!("/kubepods/besteffort/pod{pod}/{id}");
        check(&path, NONE, id, pod);
        let id = "c8b38413c88eefe063b8cd3f01c16be5e3bda9693a19a68a88807baca9feb937";
        let path = format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod5759a1ae_36ca_48a8_b20a_b0b5c8a90fb8.slice/docker-{id}.scope");
        check(&path, "docker", id, "5759a1ae-36ca-48a8-b20a-b0b5c8a90fb8");
        let id = "5eed917563583925ffdbd40a64efb2aaffe58638e57add8becaf460fe74f5b1c";
        let slices = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda5c1f8d5_1919_434d_add7_4afaafdaef89.slice";
        let path = format!("{slices}/crio-{id}.scope");
        check(&path, "cri-o", id, "a5c1f8d5-1919-434d-add7-4afaafdaef89");
        let path = format!("{slices}/crio-conmon-{id}.scope");
        assert_eq!(of(path.as_bytes()), None);
        let id = "2884d57c0e100d7a9a2f9487ce0bc2986bca3430e988af7a4865aff061f51ac5";
        let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8daa50c3a64c9ff60bb9eab7b44b56fd.slice";
        let path = format!("{slice}/cri-containerd-{id}.scope");
        check(&path, "containerd", id, "8daa50c3a64c9ff60bb9eab7b44b56fd");
    }

    /// podman #14146 and #8290, tracee #5190; a container that has its own cgroups split.
    #[test]
    fn podman() {
        let id = "e927c9f745d3a75c0e8d7707b8987eff801bb7d58af9067359b18aa72c9c5047";
        let below = |place: &str| format!("{place}/libpod-{id}.scope/container");
        check(&below("/machine.slice"), "podman", id, NONE);
        let rootless = "/user.slice/user-1000.slice/user@1000.service/user.slice";
        check(&below(rootless), "podman", id, NONE);
        check(&format!("/libpod_parent/libpod-{id}"), "podman", id, NONE);
        let split = format!("/system.slice/web.service/libpod-payload-{id}");
        check(&split, "podman", id, NONE);
        let pod = format!("/libpod_parent/{id}");
        assert_eq!(of(pod.as_bytes()), None);
        let monitor = format!("/machine.slice/libpod-conmon-{id}.scope");
        assert_eq!(of(monitor.as_bytes()), None);
    }

    /// systemd #18104 and #20889, needrestart #188, netdata #3199; Proxmox adds `ns`.
    #[test]
    fn by_their_names() {
        let nspawn = |path, name| check(path, "systemd-nspawn", name, NONE);
        nspawn("/machine.slice/machine-rootfs.scope/payload", "rootfs");
        nspawn(
            "/machine.slice/machine-a\\x2db.scope/payload/init.scope",
            "a-b",
        );
        nspawn(
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
            "web",
        );
        let lxc = |path, name| check(path, "lxc", name, NONE);
        lxc("/lxc/deloittedigi/system.slice/atd.service", "deloittedigi");
        lxc("/lxc.payload.busybox/init.scope", "busybox");
        lxc("/lxc.payload/web", "web");
        lxc("/lxc/100/ns/init.scope", "100");
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "/",
            "",
            "...",
            "/user.slice/user-1000.slice/session-45585.scope",
            "/system.slice/containerd.service",
            "/system.slice/docker.service",
            "/system.slice/docker-cleanup.scope",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
            "/machine.slice/machine-rootfs.scope/supervisor",
            "/lxc.monitor.busybox",
            "/lxc",
            "/process_api/2936bcc5ca1519b19e14ccb5ee865969",
        ] {
            assert_eq!(of(path.as_bytes()), None, "{path}");
        }
    }

    /// kind runs nodes of Kubernetes in docker.
    #[test]
    fn the_innermost_counts() {
        let outer = "2403ccfe427f1dc7b6120dccb9ac58c2f8456950380d587a9f33ea7f00dd303d";
        let inner = "9e073649debeec6d511391c9ec7627ee67ce3a3fb508b0fa0437a97f8e58ba98";
        let pod = "019c1fe8-0d92-4aa0-b61c-4df58bdde71c";
        let path = format!("/docker/{outer}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{}.slice/cri-containerd-{inner}.scope", pod.replace('-', "_"));
        check(&path, "containerd", inner, pod);
    }
}

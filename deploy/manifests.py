"""Holds manifests against the schemas of Kubernetes and against what this service needs of them."""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

# The oldest that has preStop.sleep on by default, and the newest there is a schema of.
VERSIONS = ["1.30", kubernetes_validate.latest_version()]


def schema_faults(manifest):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{'.'.join(map(str, error.path))}: {error.message} (Kubernetes {version})"


def container_faults(container):
    security = container.get("securityContext", {})
    if not (security.get("readOnlyRootFilesystem") and security.get("allowPrivilegeEscalation") is False):
        yield "must not write to its root or gain privileges"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "must drop all capabilities"
    for kind in ("cpu", "memory"):
        if kind not in container["resources"]["requests"]:
            yield f"requests no {kind}"
    if "memory" not in container["resources"].get("limits", {}):
        yield "has no limit of memory"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"has no {probe}"


def deployment_faults(deployment, drain_seconds):
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    if not spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items():
        yield "selects other pods than it makes"
    if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
        yield "must mount no token and take no service links"
    if not pod["securityContext"].get("runAsNonRoot") or not pod["securityContext"].get("runAsUser"):
        yield "must run as a user that is not root"
    for container in pod["containers"]:
        yield from (f"container {container['name']} {fault}" for fault in container_faults(container))
        needed = container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain_seconds + 5
        if pod["terminationGracePeriodSeconds"] < needed:
            yield f"terminationGracePeriodSeconds must be at least {needed}: preStop, drain_seconds, and 5 more"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if mounted != {volume["name"] for volume in pod["volumes"]}:
            yield "mounts other volumes than it has"


def service_faults(service, speaks_tls):
    # A mesh or a proxy goes by it.
    wanted = "https" if speaks_tls else "kubernetes.io/h2c"
    for port in service["spec"]["ports"]:
        if port.get("appProtocol") != wanted:
            yield f"port {port['name']} must have appProtocol {wanted}"


def has_tls(manifests):
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if manifest["kind"] == "Deployment"]
    settings = [setting for pod in pods for container in pod["containers"] for setting in container.get("env", [])]
    return any(setting["name"] == "RASID_TLS_CERT" for setting in settings)


def drain(manifests):
    for manifest in manifests:
        for line in manifest.get("data", {}).get("rasid.toml", "").splitlines():
            if line.startswith("drain_seconds"):
                return int(line.split("=")[1])
    return 30


def main(folder, file):
    manifests = [manifest for manifest in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")) if manifest]
    faults = []
    for manifest in manifests:
        found = list(schema_faults(manifest))
        if manifest["kind"] == "Deployment":
            found += deployment_faults(manifest, drain(manifests))
        if manifest["kind"] == "Service":
            found += service_faults(manifest, has_tls(manifests))
        faults += [f"{manifest['kind']} {manifest['metadata']['name']}: {fault}" for fault in found]
    kinds = {manifest["kind"] for manifest in manifests}
    wanted = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"}
    faults += [f"there is no {kind}" for kind in wanted - kinds]
    for fault in faults:
        print(f"{folder}: {fault}")
    print(f"{folder}: {'FAILED' if faults else 'SUCCESS'}, {len(manifests)} manifests, Kubernetes {' and '.join(VERSIONS)}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

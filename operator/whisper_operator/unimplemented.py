"""Fields of the contract that the API accepts and this version does not carry out yet. The list only ever shrinks."""

from whisper_operator.fields import Fields


def unimplemented_fields(spec: Fields) -> list[str]:
    """Paths of the fields in `spec` that would be silently ignored if nobody said so."""
    ingress = spec.sub("ingress")
    tls = ingress.sub("tls")
    found = {
        "spec.modelVolume": spec.has("modelVolume"),
        "spec.engine: faster-whisper": spec.text("engine") == "faster-whisper",
        "spec.computeType": spec.has("computeType"),
        "spec.autoscaling": spec.has("autoscaling"),
        "spec.auth": spec.has("auth"),
        "spec.defaults.vad": spec.sub("defaults").flag("vad"),
        "spec.ingress.class other than gce": (ingress.text("class") or "gce") != "gce",
        "spec.ingress.tls.secretName": tls.has("secretName"),
        "spec.ingress.tls.preSharedCert": tls.has("preSharedCert"),
        "spec.ingress.httpsRedirect": ingress.flag("httpsRedirect"),
        "spec.ingress.sslPolicy": ingress.has("sslPolicy"),
        "spec.ingress.securityPolicy": ingress.has("securityPolicy"),
        "spec.ingress.reserveStaticIP": ingress.flag("reserveStaticIP"),
    }
    return [path for path, present in found.items() if present]

"""Custom resources: what a definition adds to what is served, and the rules for its objects."""

from . import clock, kinds, rules, schema, status
from .store import copy

CRD = ("apiextensions.k8s.io", "customresourcedefinitions")
# With one of these, the rules are not looked at.
BLOCKING = {
    "FieldValueRequired",
    "FieldValueNotSupported",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
}
UNCHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation"
)


def prune(resource, value):
    """Takes away what the schema does not know; the paths of it."""
    known = resource.schema()
    return schema.prune(value, known, root=True) if known else []


def default(resource, value):
    known = resource.schema()
    if known:
        schema.default(value, known)


def problems(resource, value, old):
    known = resource.schema()
    if not known:
        return []
    body = {k: v for k, v in value.items()}
    found = schema.validate(
        body,
        {
            **known,
            "properties": {k: v for k, v in known.get("properties", {}).items() if k != "metadata"},
        },
    )
    if rules.has_rules(known):
        if any(problem.reason in BLOCKING for problem in found):
            found.append(status.Problem("FieldValueInvalid", "<nil>", UNCHECKED))
        else:
            found += rules.found_in(body, known, old)
    return found


class Definitions:
    """Keeps what is served in step with the stored definitions."""

    def __init__(self, api):
        self.api = api

    def problems(self, resource, value, old):
        if resource.key != CRD:
            return []
        spec, found = value["spec"], []
        names, group = spec.get("names") or {}, spec.get("group", "")
        for field in ("plural", "kind"):
            if not names.get(field):
                found.append(status.required(f"spec.names.{field}"))
        if not group:
            found.append(status.required("spec.group"))
        elif "." not in group:
            found.append(
                status.invalid_value(
                    "spec.group", group, "should be a domain with at least one dot"
                )
            )
        name = f"{names.get('plural')}.{group}"
        if value["metadata"]["name"] != name:
            found.append(
                status.invalid_value(
                    "metadata.name",
                    value["metadata"]["name"],
                    'must be spec.names.plural+"."+spec.group',
                )
            )
        if spec.get("scope") not in ("Namespaced", "Cluster"):
            found.append(
                status.unsupported("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
            )
        versions = spec.get("versions") or []
        if sum(bool(v.get("storage")) for v in versions) != 1:
            found.append(
                status.invalid_value(
                    "spec.versions",
                    versions,
                    "must have exactly one version marked as storage version",
                )
            )
        if old and old["spec"]["scope"] != spec.get("scope"):
            found.append(status.invalid_value("spec.scope", spec["scope"], "field is immutable"))
        for index, version in enumerate(versions):
            found += self._version_problems(version, f"spec.versions[{index}]")
        return found

    def _version_problems(self, version, path):
        known = (version.get("schema") or {}).get("openAPIV3Schema")
        if not known:
            return [status.required(f"{path}.schema.openAPIV3Schema", "schemas are required")]
        place = f"{path}.schema.openAPIV3Schema"
        found = schema.structural_problems(known, place)
        found += rules.definition_problems(known, place)
        scale = (version.get("subresources") or {}).get("scale")
        if scale is not None:
            for field, start in (
                ("specReplicasPath", ".spec."),
                ("statusReplicasPath", ".status."),
            ):
                if not str(scale.get(field, "")).startswith(start):
                    found.append(
                        status.invalid_value(
                            f"{path}.subresources.scale.{field}",
                            scale.get(field, ""),
                            f"should be a json path under {start[:-1]}",
                        )
                    )
        for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
            if column.get("type") not in ("integer", "number", "string", "boolean", "date"):
                found.append(
                    status.invalid_value(
                        f"{path}.additionalPrinterColumns[{index}].type",
                        column.get("type"),
                        "must be one of boolean,date,integer,number,string",
                    )
                )
            if not str(column.get("jsonPath", "")).startswith("."):
                found.append(
                    status.invalid_value(
                        f"{path}.additionalPrinterColumns[{index}].jsonPath",
                        column.get("jsonPath", ""),
                        "is not a valid path",
                    )
                )
        return found

    def before_write(self, resource, value):
        if resource.key != CRD:
            return
        spec = value["spec"]
        now = value.setdefault("status", {})
        stored = next(v["name"] for v in spec["versions"] if v["storage"])
        versions = now.setdefault("storedVersions", [])
        if stored not in versions:
            versions.append(stored)
        now["acceptedNames"] = copy(spec["names"])
        if not now.get("conditions"):
            now["conditions"] = [
                {
                    "type": "NamesAccepted",
                    "status": "True",
                    "reason": "NoConflicts",
                    "message": "no conflicts found",
                    "lastTransitionTime": clock.stamp(),
                },
                {
                    "type": "Established",
                    "status": "True",
                    "reason": "InitialNamesAccepted",
                    "message": "the initial names have been accepted",
                    "lastTransitionTime": clock.stamp(),
                },
            ]
        if not value["metadata"].get("deletionTimestamp"):
            finalizers = value["metadata"].setdefault("finalizers", [])
            if "customresourcecleanup.apiextensions.k8s.io" not in finalizers:
                finalizers.append("customresourcecleanup.apiextensions.k8s.io")

    def after_write(self, resource, value):
        if resource.key == CRD and not value["metadata"].get("deletionTimestamp"):
            self.api.registry.add(served(value))

    def after_delete(self, resource, value):
        if resource.key == CRD:
            self.api.registry.drop((value["spec"]["group"], value["spec"]["names"]["plural"]))


def served(definition):
    """The resource that a definition describes."""
    spec = definition["spec"]
    names = spec["names"]
    versions = sorted(spec["versions"], key=lambda v: not v["storage"])
    custom, schemas, fields = {}, {}, set(kinds.META_FIELDS)
    for version in versions:
        subresources = version.get("subresources") or {}
        custom[version["name"]] = {
            "subresources": {k: v for k, v in subresources.items() if v is not None},
            "columns": version.get("additionalPrinterColumns") or [],
            "warning": _warning(definition, version),
        }
        schemas[version["name"]] = version["schema"]["openAPIV3Schema"]
        fields |= {f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()}
    return kinds.Resource(
        spec["group"],
        tuple(v["name"] for v in versions),
        names["plural"],
        names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        schemas=schemas,
        field_labels=frozenset(fields),
        unconditional_update=False,
        custom=custom,
        singular=names.get("singular", ""),
        list_kind=names.get("listKind", ""),
        has_generation=True,
        hidden_versions=frozenset(v["name"] for v in versions if not v["served"]),
    )


def _warning(definition, version):
    if not version.get("deprecated"):
        return None
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    return version.get("deprecationWarning") or f"{group}/{version['name']} {kind} is deprecated"

"""The verbs of the API on stored objects: what each checks, changes and refuses.

Everything here happens at once, between two turns of the event loop, so that no write can come
between a check and the change that it allows. Objects go in and out in their stored version.
"""

import dataclasses
import random
import uuid

from . import admission, builtin, clock, custom, fields, patches, scale, status, strategies
from .store import copy

NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
GENERATED_NAME_ATTEMPTS = 8
# Fields of metadata that a client cannot change.
SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
)


@dataclasses.dataclass
class Options:
    """How a request wants to be carried out, and what the server has to say about it."""

    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    field_validation: str = "Warn"
    # A PUT that creates what is missing; apply does so for every kind.
    warnings: list = dataclasses.field(default_factory=list)
    user: object = None


SYSTEM = Options(manager="cluster", field_validation="Ignore")


class Api:
    def __init__(self, store, registry, randomness=None):
        self.store = store
        self.registry = registry
        self.random = randomness or random.Random()
        self.definitions = custom.Definitions(self)

    # Reading ------------------------------------------------------------------------------------

    def get(self, resource, namespace, name):
        found = self.store.get(resource.key, namespace, name)
        if found is None:
            raise status.not_found(resource, name)
        return found

    def find(self, plural, namespace, name, group=""):
        """For the controllers: an object or None."""
        return self.store.get((group, plural), namespace, name)

    # Creating -----------------------------------------------------------------------------------

    def create(self, resource, namespace, value, options=SYSTEM):
        value = copy(value)
        meta = self._metadata(resource, value)
        self._place(resource, namespace, meta)
        if meta.get("resourceVersion"):
            raise status.ApiError(400, "resourceVersion should not be set on objects to be created")
        admission.namespace_is_open(self, resource, namespace, meta.get("name"))
        self._clean(resource, value, options)
        meta = value["metadata"]
        self._fill(resource, value)
        if resource.has_status():
            value.pop("status", None)
            self._initial_status(resource, value)
        self._name(resource, meta)
        for name in SERVER_OWNED:
            meta.pop(name, None)
        meta["uid"] = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        meta["creationTimestamp"] = clock.stamp()
        if resource.has_generation:
            meta["generation"] = 1
        admission.admit_create(self, resource, value)
        self._validate(resource, value, None)
        fields.created(resource, value, options)
        if (meta.get("namespace", ""), meta["name"]) in self.store.kinds[resource.key].objects:
            raise status.already_exists(resource, meta["name"])
        if options.dry_run:
            return value
        self.definitions.before_write(resource, value)
        stored = self.store.put(resource.key, value)
        self.definitions.after_write(resource, stored)
        return self.get(resource, namespace, meta["name"])

    def _metadata(self, resource, value):
        if (
            value.get("apiVersion") != resource.stored_api_version
            or value.get("kind") != resource.kind
        ):
            raise status.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): it is"
                f" {value.get('apiVersion')}, Kind={value.get('kind')}"
            )
        meta = value.get("metadata")
        if meta is None:
            meta = value["metadata"] = {}
        for name in ("labels", "annotations"):
            if not meta.get(name):
                meta.pop(name, None)
        return meta

    def _place(self, resource, namespace, meta):
        if not resource.namespaced:
            meta.pop("namespace", None)
        elif meta.setdefault("namespace", namespace) != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the"
                " namespace sent on the request"
            )

    def _name(self, resource, meta):
        if meta.get("name") or not meta.get("generateName"):
            return
        for _ in range(GENERATED_NAME_ATTEMPTS):
            suffix = "".join(self.random.choice(NAME_ALPHABET) for _ in range(5))
            meta["name"] = meta["generateName"][:58] + suffix
            if not self.store.get(resource.key, meta.get("namespace"), meta["name"]):
                return

    def _clean(self, resource, value, options):
        """Takes away fields that the kind does not have, and says so as the client asked for."""
        if options is SYSTEM:
            return
        if resource.custom is not None:
            unknown = custom.prune(resource, value)
        else:
            try:
                clean, unknown = builtin.normalize(value, resource.schema())
            except builtin.WrongType as error:
                raise self._unreadable(resource, error) from None
            value.clear()
            value.update(clean)
        if unknown and options.field_validation == "Strict":
            listed = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise self._unreadable(resource, f"strict decoding error: {listed}")
        if options.field_validation == "Warn":
            options.warnings += [f'unknown field "{path}"' for path in unknown]

    @staticmethod
    def _unreadable(resource, why):
        return status.bad_request(
            f'{resource.kind} in version "{resource.storage_version}" cannot be handled as a'
            f" {resource.kind}: {why}"
        )

    def _fill(self, resource, value):
        if resource.custom is not None:
            custom.default(resource, value)
            return
        try:
            strategies.default(resource, value)
        except (TypeError, AttributeError, KeyError) as error:
            raise self._unreadable(resource, f"json: cannot unmarshal: {error}") from None

    def _initial_status(self, resource, value):
        if resource.key == ("", "namespaces"):
            value["status"] = {"phase": "Active"}
        elif resource.key == ("", "pods"):
            value["status"] = {"phase": "Pending", "qosClass": admission.quality_of_service(value)}
        elif resource.key == ("", "services"):
            value["status"] = {"loadBalancer": {}}
        elif resource.custom is None:
            value["status"] = {}

    def _validate(self, resource, value, old):
        problems = strategies.metadata_problems(resource, value["metadata"])
        if resource.custom is not None:
            problems += custom.problems(resource, value, old)
        elif not problems or value["metadata"].get("name"):
            try:
                problems += strategies.problems(resource, value, old)
            except (TypeError, AttributeError, KeyError) as error:
                raise self._unreadable(resource, repr(error)) from None
        problems += self.definitions.problems(resource, value, old)
        if problems:
            raise status.invalid(resource, value["metadata"].get("name", ""), problems)

    # Changing -----------------------------------------------------------------------------------

    def update(self, resource, namespace, name, value, options=SYSTEM, subresource=None):
        """Replaces an object, or the part of it that a subresource is."""
        value = copy(value)
        meta = self._metadata(resource, value)
        if meta.get("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({meta['name']}) does not match the"
                f" name on the URL ({name})"
            )
        meta["name"] = name
        self._place(resource, namespace, meta)
        old = self.get(resource, namespace, name)
        if not meta.get("resourceVersion"):
            if not resource.unconditional_update:
                raise status.invalid(
                    resource,
                    name,
                    [
                        status.invalid_value(
                            "metadata.resourceVersion", 0, "must be specified for an update"
                        )
                    ],
                )
            meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        return self._replace(resource, old, value, options, subresource)

    def _replace(self, resource, old, value, options, subresource, applied=None):
        before = old["metadata"]
        name = before["name"]
        self._same_object(resource, value["metadata"], before)
        self._clean(resource, value, options)
        value = self._keep(resource, old, value, subresource)
        meta = value["metadata"]
        for field in SERVER_OWNED:
            meta.pop(field, None)
            if field in before:
                meta[field] = before[field]
        self._fill(resource, value)
        if before.get("deletionTimestamp"):
            added = set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ())
            if added:
                raise status.invalid(
                    resource,
                    name,
                    [
                        status.not_allowed(
                            "metadata.finalizers",
                            "no new finalizers can be added if the object is being"
                            f" deleted, found new finalizers {sorted(added)}",
                        )
                    ],
                )
        if resource.has_generation and self._wants_change(resource, old, value):
            meta["generation"] = before.get("generation", 0) + 1
        self._validate(resource, value, old)
        if applied is None:
            fields.updated(resource, old, value, options, subresource)
        else:
            meta["managedFields"] = applied
        if not meta.get("managedFields"):
            meta.pop("managedFields", None)
        if _same(old, value) or options.dry_run:
            # A write that changes nothing is no write: the version stays.
            value["metadata"]["resourceVersion"] = before["resourceVersion"]
            return old if _same(old, value) else value
        return self._save(resource, value)

    def _same_object(self, resource, meta, before):
        name = before["name"]
        if meta.get("uid") and meta["uid"] != before["uid"]:
            raise status.conflict(
                resource,
                name,
                "Precondition failed: UID in precondition: "
                f"{meta['uid']}, UID in object meta: {before['uid']}",
            )
        version = meta.get("resourceVersion")
        if version and not str(version).isdigit():
            raise status.invalid(
                resource,
                name,
                [
                    status.invalid_value(
                        "metadata.resourceVersion", version, "must be an unsigned integer"
                    )
                ],
            )
        if version and version != before["resourceVersion"]:
            raise status.conflict(resource, name)

    def _keep(self, resource, old, value, subresource):
        """What of a write counts: the status only through its subresource, and only it there."""
        if subresource == "status":
            kept = {**old, "status": value.get("status"), "metadata": copy(old["metadata"])}
            if resource.custom is None:
                for name in ("annotations", "labels", "finalizers"):
                    if name in value["metadata"] and resource.key[0] != "apps":
                        kept["metadata"][name] = value["metadata"][name]
                if "annotations" in value["metadata"]:
                    kept["metadata"]["annotations"] = value["metadata"]["annotations"]
            if value.get("status") is None:
                kept.pop("status", None)
            kept["metadata"]["managedFields"] = value["metadata"].get(
                "managedFields", old["metadata"].get("managedFields")
            )
            return copy(kept)
        if resource.has_status():
            value.pop("status", None)
            if "status" in old:
                value["status"] = copy(old["status"])
        return value

    def _wants_change(self, resource, old, new):
        """Whether more than the metadata and the status differ."""
        ignored = {"metadata", "apiVersion", "kind"}
        if resource.has_status():
            ignored.add("status")
        return {k: v for k, v in old.items() if k not in ignored} != {
            k: v for k, v in new.items() if k not in ignored
        }

    def _save(self, resource, value):
        meta = value["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        self.definitions.before_write(resource, value)
        if (
            meta.get("deletionTimestamp")
            and not meta.get("finalizers")
            and not (meta.get("deletionGracePeriodSeconds"))
            and not (resource.key == ("", "namespaces") and value["spec"].get("finalizers"))
        ):
            self.store.put(resource.key, value)
            return self._remove(resource, namespace, name)
        stored = self.store.put(resource.key, value)
        self.definitions.after_write(resource, stored)
        return self.store.get(resource.key, namespace, name)

    def _remove(self, resource, namespace, name):
        gone = self.store.remove(resource.key, namespace, name)
        self.definitions.after_delete(resource, gone)
        return gone

    # Patching -----------------------------------------------------------------------------------

    def patch(
        self, resource, namespace, name, kind, patch, options=SYSTEM, subresource=None, version=None
    ):
        """`kind` is merge, json or strategic; the patch is for the object in `version`."""
        if kind == "strategic" and resource.custom is not None:
            raise status.ApiError(
                415,
                "the body of the request was in an unknown format - accepted media types"
                " include: application/json-patch+json, application/merge-patch+json,"
                " application/apply-patch+yaml",
            )
        old = self.get(resource, namespace, name)
        version = version or resource.storage_version
        seen = resource.to_version(old, version)
        value = self.patched(kind, seen, patch, resource.schema(version))
        if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
            raise status.bad_request("the patch leaves no object")
        value = copy(resource.to_storage(value, version))
        meta = self._metadata(resource, value)
        if meta.get("name") != name:
            raise status.bad_request(
                f"the name of the object ({meta.get('name')}) does not match"
                f" the name on the URL ({name})"
            )
        if resource.namespaced and meta.get("namespace") != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the"
                " namespace sent on the request"
            )
        return self._replace(resource, old, value, options, subresource)

    @staticmethod
    def patched(kind, old, patch, schema):
        if kind == "json":
            return patches.json_patch(old, patch)
        if not isinstance(patch, dict):
            raise status.bad_request("the patch is no object")
        if kind == "merge":
            return copy(patches.merge(old, patch))
        return copy(patches.strategic(old, patch, schema))

    def apply(self, resource, namespace, name, value, options, subresource=None):
        """Server-side apply; returns the object and whether it is new."""
        value = copy(value)
        meta = self._metadata(resource, value)
        if meta.get("managedFields"):
            raise status.bad_request("metadata.managedFields must be nil")
        if meta.get("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({meta['name']}) does not match the"
                f" name on the URL ({name})"
            )
        meta["name"] = name
        self._place(resource, namespace, meta)
        self._clean(resource, value, options)
        old = self.store.get(resource.key, namespace, name)
        if old is None:
            if subresource or meta.get("uid"):
                raise (
                    status.not_found(resource, name)
                    if subresource
                    else status.conflict(
                        resource,
                        name,
                        f"uid mismatch: the provided object specified uid {meta['uid']},"
                        " and no existing object was found",
                    )
                )
            merged, managed = fields.apply(resource, None, value, options, subresource)
            created = self.create(
                resource,
                namespace,
                merged,
                dataclasses.replace(options, manager=fields.APPLIED, warnings=options.warnings),
            )
            return self._with_managed(resource, created, managed, options), True
        if (
            meta.get("resourceVersion")
            and meta["resourceVersion"] != old["metadata"]["resourceVersion"]
        ):
            raise status.conflict(resource, name)
        merged, managed = fields.apply(resource, old, value, options, subresource)
        merged["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        return self._replace(resource, old, merged, options, subresource, applied=managed), False

    def _with_managed(self, resource, created, managed, options):
        # The version is the one of the creation: nobody has seen it without its managers yet.
        created["metadata"]["managedFields"] = managed
        return created

    # Deleting -----------------------------------------------------------------------------------

    def delete(self, resource, namespace, name, body=None, options=SYSTEM):
        """Returns the object and whether it is gone already."""
        body = body or {}
        old = self.get(resource, namespace, name)
        meta = old["metadata"]
        self._preconditions(resource, meta, body.get("preconditions") or {})
        value = copy(old)
        grace = self._grace_period(resource, old, body)
        finalizers = self._finalizers(resource, value, body)
        namespace_first = resource.key == ("", "namespaces") and value["spec"].get("finalizers")
        waits = bool(finalizers) or bool(grace) or bool(namespace_first)
        if not waits:
            if options.dry_run:
                return old, True
            return self._remove(resource, namespace, name), True
        new = value["metadata"]
        new["finalizers"] = finalizers
        if not finalizers:
            new.pop("finalizers")
        if not meta.get("deletionTimestamp"):
            new["deletionTimestamp"] = clock.stamp_after(grace or 0)
            new["deletionGracePeriodSeconds"] = grace or 0
            if new.get("generation"):
                new["generation"] += 1
        elif grace is not None and grace < meta.get("deletionGracePeriodSeconds", 0):
            shorter = meta["deletionGracePeriodSeconds"] - grace
            new["deletionGracePeriodSeconds"] = grace
            new["deletionTimestamp"] = clock.stamp_after(
                clock.parse_stamp(meta["deletionTimestamp"])
                - shorter
                - clock.parse_stamp(clock.stamp())
            )
        if resource.key == ("", "namespaces"):
            value["status"]["phase"] = "Terminating"
        if options.dry_run or _same(old, value):
            return value, False
        stored = self.store.put(resource.key, value)
        self.definitions.after_write(resource, stored)
        return stored, False

    def _preconditions(self, resource, meta, wanted):
        for field, word, after in (
            ("uid", "UID", "deleted and then recreated"),
            ("resourceVersion", "ResourceVersion", "modified"),
        ):
            if wanted.get(field) and wanted[field] != meta[field]:
                raise status.ApiError(
                    409,
                    f'Operation cannot be fulfilled on {resource.kind} "{meta["name"]}": the'
                    f" {word} in the precondition ({wanted[field]}) does not match the {word} in"
                    f" record ({meta[field]}). The object might have been {after}",
                    details={"name": meta["name"], "group": resource.group, "kind": resource.kind},
                )

    def _grace_period(self, resource, old, body):
        """Seconds that a pod has to end; None for kinds that go at once."""
        if resource.key != ("", "pods"):
            return None
        asked = body.get("gracePeriodSeconds")
        if asked is not None and asked < 0:
            asked = 1
        grace = old["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
        done = old["status"].get("phase") in ("Succeeded", "Failed")
        if not old["spec"].get("nodeName") or done:
            return 0
        if old["metadata"].get("deletionTimestamp"):
            return min(grace, old["metadata"].get("deletionGracePeriodSeconds", grace))
        return grace

    def _finalizers(self, resource, value, body):
        finalizers = list(value["metadata"].get("finalizers") or ())
        policy = body.get("propagationPolicy")
        if policy not in (None, "Orphan", "Background", "Foreground"):
            raise status.invalid(
                resource,
                value["metadata"]["name"],
                [
                    status.invalid_value(
                        "propagationPolicy", policy, "must be Orphan, Background or Foreground"
                    )
                ],
            )
        if body.get("orphanDependents") and not policy:
            policy = "Orphan"
        if policy:
            finalizers = [f for f in finalizers if f not in ("orphan", "foregroundDeletion")]
        if policy == "Orphan":
            finalizers.append("orphan")
        if policy == "Foreground":
            finalizers.append("foregroundDeletion")
        return finalizers

    # Subresources -------------------------------------------------------------------------------

    def get_scale(self, resource, version, namespace, name):
        return scale.of(resource, version, self.get(resource, namespace, name))

    def put_scale(self, resource, version, namespace, name, value, options=SYSTEM):
        """Sets the replicas from a Scale object."""
        old = self.get(resource, namespace, name)
        new = scale.applied(resource, version, old, value)
        return scale.of(resource, version, self._replace(resource, old, new, options, "scale"))

    def patch_scale(self, resource, version, namespace, name, kind, patch, options=SYSTEM):
        before = self.get_scale(resource, version, namespace, name)
        value = self.patched("merge" if kind == "strategic" else kind, before, patch, None)
        return self.put_scale(resource, version, namespace, name, value, options)

    def evict(self, namespace, name, body, options=SYSTEM):
        """Deletes a pod, unless a disruption budget forbids it."""
        pods = self.registry.get("", "pods")
        pod = self.get(pods, namespace, name)
        admission.disruption_allowed(self, pod, options)
        return self.delete(pods, namespace, name, body.get("deleteOptions"), options)

    def bind(self, namespace, name, node):
        """The scheduler's write: a pod gets its node."""
        pods = self.registry.get("", "pods")
        value = copy(self.get(pods, namespace, name))
        if value["spec"].get("nodeName"):
            raise status.conflict(
                pods, name, f'pod {name} is already assigned to node "{value["spec"]["nodeName"]}"'
            )
        value["spec"]["nodeName"] = node
        conditions = [
            c for c in value["status"].get("conditions") or () if c["type"] != "PodScheduled"
        ]
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": clock.stamp(),
            }
        )
        value["status"]["conditions"] = conditions
        return self.store.put(pods.key, value)


def _same(old, new):
    """Whether two objects differ in nothing but the times of managed fields."""

    def stripped(value):
        meta = {k: v for k, v in value["metadata"].items() if k != "resourceVersion"}
        meta["managedFields"] = [
            {k: v for k, v in entry.items() if k != "time"}
            for entry in meta.get("managedFields") or ()
        ]
        return {**value, "metadata": meta}

    return stripped(old) == stripped(new)

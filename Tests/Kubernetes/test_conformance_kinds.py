"""What the Kubernetes API promises: custom resources, roles, leases, events, tables."""

import pytest

import kube
import objects
from kube import eventually
from objects import config_map, deployment, names, widget


# Custom resources ---------------------------------------------------------------------------------


def test_schemas_default_and_prune(api, things):
    value = widget("a", parts=[{"name": "x", "extra": 1}], unknown=True, free={"any": {"thing": 1}})
    made = api.post(things, value).expect(201)
    assert made["spec"] == {
        "size": 1,
        "color": "red",
        "parts": [{"name": "x", "count": 1}],
        "free": {"any": {"thing": 1}},
    }


@pytest.mark.parametrize(
    "spec, cause",
    [
        ({"size": "big"}, ("FieldValueTypeInvalid", "spec.size")),
        ({"size": 101}, ("FieldValueInvalid", "spec.size")),
        ({"size": -1}, ("FieldValueInvalid", "spec.size")),
        ({"color": "blue"}, ("FieldValueNotSupported", "spec.color")),
        ({"name": "A1"}, ("FieldValueInvalid", "spec.name")),
        ({"weights": {"x": -1}}, ("FieldValueInvalid", "spec.weights.x")),
        ({"parts": [{"count": 1}]}, ("FieldValueRequired", "spec.parts[0].name")),
        ({"parts": [{"name": "x"}, {"name": "x"}]}, ("FieldValueDuplicate", "spec.parts[1]")),
        ({"tags": ["a", "a"]}, ("FieldValueDuplicate", "spec.tags[1]")),
    ],
)
def test_schemas_refuse(api, target, things, spec, cause):
    refused = api.post(things, widget("a", **{"size": 1, **spec}))
    body = refused.expect(422)
    assert body["reason"] == "Invalid" and body["details"]["kind"] == "Widget"
    assert body["message"].startswith(f'Widget.{objects.GROUP} "a" is invalid: ')
    field = cause[1]
    found = refused.causes()
    if target.minor < 25 and "[" not in field:
        assert field in [f for _, f in found]  # the reasons of older servers are less exact
    elif target.minor >= 25:
        assert cause in found


def test_required_fields_are_required(api, things):
    value = widget("a")
    del value["spec"]["size"]
    refused = api.post(things, value)
    assert refused.expect(422) and ("FieldValueRequired", "spec.size") in refused.causes()


def test_the_status_is_validated_too(api, things):
    api.post(things, widget("a")).expect(201)
    assert api.patch(f"{things}/a/status", {"status": {"size": "big"}}).code == 422


def test_numbers_or_words_where_a_schema_allows_both(api):
    # In a kind of its own: before 1.21, such a field keeps apply from using the kind's schema.
    definition = objects.widget_definition(
        plural="sockets", kind="Socket", port={"x-kubernetes-int-or-string": True}
    )
    assert api.post(objects.DEFINITIONS, definition).code in (201, 409)
    sockets = f"{objects.wait_served(api, 'sockets')}/namespaces/default/sockets"
    try:
        for port, code in ((80, 201), ("http", 201), (True, 422), ([], 422)):
            value = {**widget("", port=port), "kind": "Socket", "metadata": {"generateName": "a-"}}
            assert api.post(sockets, value).code == code, port
    finally:
        api.delete(f"{objects.DEFINITIONS}/sockets.{objects.GROUP}")


def test_nulls_are_defaults_or_gone(api, things):
    made = api.post(things, widget("a", color=None, note=None)).expect(201)
    assert made["spec"] == {"size": 1, "color": "red", "note": None}


def test_deprecated_versions_warn(api, things):
    old = things.replace("/v1/", "/v1beta1/")
    value = {**widget("a"), "apiVersion": f"{objects.GROUP}/v1beta1"}
    made = api.post(old, value)
    assert made.expect(201)["apiVersion"] == f"{objects.GROUP}/v1beta1"
    assert "deprecated" in made.warnings[0] and made.warnings[0].startswith("299 - ")
    assert api.get(f"{things}/a").expect(200)["apiVersion"] == f"{objects.GROUP}/v1"


def test_unknown_fields_warn_or_are_refused(api, target, things, deployments):
    target.needs(27, "field validation")
    made = api.post(things, widget("a", nonsense=1), fieldValidation="Warn")
    assert made.expect(201) and 'unknown field \\"spec.nonsense\\"' in made.warnings[0]
    refused = api.post(things, widget("b", nonsense=1), fieldValidation="Strict").expect(400)
    assert 'strict decoding error: unknown field "spec.nonsense"' in refused["message"]
    assert not api.post(things, widget("c", nonsense=1), fieldValidation="Ignore").warnings
    value = deployment("a", 0)
    value["spec"]["nonsense"] = 1
    assert api.post(deployments, value, fieldValidation="Strict").code == 400


def test_rules_are_evaluated(api, target):
    target.needs(25, "CEL rules")
    rules = [
        {"rule": "self.size < 50 || self.color == 'green'", "message": "big ones are green"},
        {
            "rule": "self.size >= oldSelf.size",
            "messageExpression": "'cannot shrink from ' + string(oldSelf.size)",
            "fieldPath": ".size",
        },
        {"rule": "!has(self.name) || !self.name.startsWith('x')", "reason": "FieldValueForbidden"},
    ]
    definition = objects.widget_definition(rules, plural="rulers", kind="Ruler")
    assert api.post(objects.DEFINITIONS, definition).code in (201, 409)
    path = f"{objects.wait_served(api, 'rulers')}/namespaces/default/rulers"

    def ruler(**spec):
        return {
            "apiVersion": f"{objects.GROUP}/v1",
            "kind": "Ruler",
            "metadata": {"name": "a"},
            "spec": {"size": 1, **spec},
        }

    try:
        refused = api.post(path, ruler(size=60))
        assert refused.expect(422) and "big ones are green" in refused.json()["message"]
        assert ("FieldValueInvalid", "spec") in refused.causes()
        assert ("FieldValueForbidden", "spec") in api.post(path, ruler(name="xy")).causes()
        api.post(path, ruler(size=60, color="green")).expect(201)
        refused = api.patch(f"{path}/a", {"spec": {"size": 59}})
        assert ("FieldValueInvalid", "spec.size") in refused.causes()
        assert "cannot shrink from 60" in refused.json()["message"]
        api.patch(f"{path}/a", {"spec": {"size": 61}}).expect(200)
    finally:
        api.delete(f"{objects.DEFINITIONS}/rulers.{objects.GROUP}")


def test_definitions_must_be_structural(api):
    def refused(change):
        definition = objects.widget_definition(plural="wrongs", kind="Wrong")
        for version in definition["spec"]["versions"]:
            change(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
        return api.post(objects.DEFINITIONS, definition, dryRun="All")

    assert refused(lambda s: s["properties"]["size"].pop("type")).code == 422
    assert refused(lambda s: s["properties"]["words"].pop("items")).code == 422
    assert refused(lambda s: s["properties"]["parts"].pop("x-kubernetes-list-map-keys")).code == 422
    assert refused(lambda s: s["properties"]["color"].update(default=1)).code == 422
    assert refused(lambda s: None).code == 201


# Who may what -------------------------------------------------------------------------------------


def account_token(api, namespace, name):
    accounts = objects.CORE.format(namespace) + "/serviceaccounts"
    api.post(
        accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    ).expect(201)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600, "audiences": []},
    }
    return api.post(f"{accounts}/{name}/token", request).expect(201)["status"]["token"]


def grant(api, namespace, name, rules):
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    version = "rbac.authorization.k8s.io/v1"
    api.post(
        f"{root}/roles",
        {"apiVersion": version, "kind": "Role", "metadata": {"name": name}, "rules": rules},
    ).expect(201)
    api.post(
        f"{root}/rolebindings",
        {
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ).expect(201)


def test_roles_decide_what_an_account_may(api, namespace, maps, deployments):
    user = kube.Kube(api.kubeconfig, token=account_token(api, namespace, "robot"))
    refused = user.get(maps).expect(403)
    name = f"system:serviceaccount:{namespace}:robot"
    assert refused["reason"] == "Forbidden" and refused["message"] == (
        f'configmaps is forbidden: User "{name}" cannot list resource "configmaps" in API group ""'
        f' in the namespace "{namespace}"'
    )
    assert refused["details"] == {"kind": "configmaps"}
    grant(
        api,
        namespace,
        "robot",
        [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
            {
                "apiGroups": ["apps"],
                "resources": ["deployments/scale"],
                "resourceNames": ["a"],
                "verbs": ["get"],
            },
        ],
    )
    eventually(lambda: user.get(maps).code == 200, "the role to hold")
    refused = user.post(maps, config_map("a")).expect(403)
    assert 'cannot create resource "configmaps"' in refused["message"]
    refused = user.get(f"{deployments}/b/scale").expect(403)
    assert refused["message"].startswith('deployments.apps "b" is forbidden')
    assert 'cannot get resource "deployments/scale" in API group "apps"' in refused["message"]
    assert user.get(f"{deployments}/a/scale").code == 404
    assert user.get("/api/v1/nodes").expect(403)["message"].endswith("at the cluster scope")
    assert user.get("/apis/apps/v1").code == 200
    user.close()


def test_credentials_are_checked(api, namespace, maps):
    stranger = kube.Kube(api.kubeconfig, token="nonsense")
    refused = stranger.get(maps).expect(401)
    assert (refused["reason"], refused["message"]) == ("Unauthorized", "Unauthorized")
    nobody = kube.Kube(api.kubeconfig, anonymous=True)
    assert nobody.get(maps).code in (401, 403)
    stranger.close()
    nobody.close()


def test_accounts_can_ask_what_they_may(api, namespace):
    user = kube.Kube(api.kubeconfig, token=account_token(api, namespace, "robot"))
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "configmaps"}
        },
    }
    assert not user.post(path, review).expect(201)["status"]["allowed"]
    assert api.post(path, review).expect(201)["status"]["allowed"]
    user.close()


# Leases and events --------------------------------------------------------------------------------


def test_leases_change_hands_by_compare_and_set(api, namespace):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    now = "2026-01-02T03:04:05.000006Z"
    made = api.post(
        path,
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "a"},
            "spec": {
                "holderIdentity": "one",
                "leaseDurationSeconds": 15,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        },
    ).expect(201)
    assert made["spec"]["renewTime"] == now
    mine = {**made, "spec": {**made["spec"], "holderIdentity": "two", "leaseTransitions": 1}}
    api.put(f"{path}/a", mine).expect(200)
    assert api.put(f"{path}/a", mine).code == 409
    wrong = {**made, "metadata": {"name": "a"}}
    assert api.put(f"{path}/a", wrong).code == 422
    assert api.patch(f"{path}/a", {"spec": {"leaseDurationSeconds": 0}}).code == 422


def event(namespace, name, **fields):
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": "2026-01-02T03:04:05.000006Z",
        "reportingController": "weir.dev/controller",
        "reportingInstance": "pod-1",
        "action": "Scale",
        "reason": "ScaledUp",
        "type": "Normal",
        "note": "from 1 to 2",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "namespace": namespace},
        **fields,
    }


def test_events_are_the_same_in_both_groups(api, namespace):
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    api.post(path, event(namespace, "a")).expect(201)
    core = api.get(objects.CORE.format(namespace) + "/events/a").expect(200)
    assert core["message"] == "from 1 to 2" and core["involvedObject"]["name"] == "a"
    assert core["reportingComponent"] == "weir.dev/controller"
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}}
    assert api.patch(f"{path}/a", series).expect(200)["series"]["count"] == 2
    found = api.get(
        objects.CORE.format(namespace) + "/events", fieldSelector="involvedObject.name=a"
    )
    assert names(found.expect(200)) == ["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"reportingController": ""},
        {"reportingInstance": ""},
        {"action": ""},
        {"reason": ""},
        {"type": "Other"},
        {"note": "x" * 1025},
        {"action": "x" * 129},
    ],
)
def test_events_are_checked(api, namespace, change):
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    assert api.post(path, event(namespace, "a", **change)).expect(422)["reason"] == "Invalid"


# Tables -------------------------------------------------------------------------------------------

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def test_tables_show_a_definitions_columns(api, things):
    api.post(things, widget("a", 7)).expect(201)
    table = api.call("GET", things, accept=TABLE).expect(200)
    assert table["kind"] == "Table"
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Size", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["a", 7] and row["object"]["kind"] == "PartialObjectMetadata"

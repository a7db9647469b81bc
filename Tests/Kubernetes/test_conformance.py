"""What the Kubernetes API promises, through plain HTTP: run against the test cluster, and against any
other that WEIR_TEST_KUBECONFIG names. A case that a server is too old for is skipped with the reason.
"""

import pytest

import kube
import objects
from kube import APPLY, JSON_PATCH, MERGE, STRATEGIC, eventually
from objects import config_map, deployment, pod, widget

APPS = "/apis/apps/v1/namespaces/{}"
CORE = "/api/v1/namespaces/{}"


@pytest.fixture
def api(target):
    return target.kube


@pytest.fixture
def maps(namespace):
    return CORE.format(namespace) + "/configmaps"


@pytest.fixture
def things(widgets, namespace):
    """The collection of widgets in the test's namespace."""
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def deployments(namespace):
    return APPS.format(namespace) + "/deployments"


# Discovery ----------------------------------------------------------------------------------------


def test_discovery_lists_groups_kinds_and_subresources(api):
    assert "v1" in api.get("/api").expect(200)["versions"]
    groups = {g["name"]: g for g in api.get("/apis").expect(200)["groups"]}
    assert {"apps", "coordination.k8s.io", "discovery.k8s.io", "policy"} <= groups.keys()
    assert groups["apps"]["preferredVersion"]["groupVersion"] == "apps/v1"
    listed = {r["name"]: r for r in api.get("/apis/apps/v1").expect(200)["resources"]}
    assert listed["deployments"]["kind"] == "Deployment" and listed["deployments"]["namespaced"]
    assert "deploy" in listed["deployments"]["shortNames"]
    scale = listed["deployments/scale"]
    assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
    assert sorted(scale["verbs"]) == ["get", "patch", "update"]


def test_custom_kinds_are_discovered_and_gone_with_their_definition(api, widgets):
    definition = objects.widget_definition(plural="gadgets", kind="Gadget")
    api.post(objects.DEFINITIONS, definition).expect(201)
    objects.wait_served(api, "gadgets")
    listed = {r["name"]: r for r in api.get(widgets).expect(200)["resources"]}
    assert {"gadgets", "gadgets/status", "gadgets/scale"} <= listed.keys()
    assert listed["gadgets"]["categories"] == ["things"]
    path = f"{objects.DEFINITIONS}/gadgets.{objects.GROUP}"
    api.delete(path).expect(200)
    eventually(lambda: api.get(path).code == 404, "the definition to go")
    eventually(lambda: api.get(f"{widgets}/gadgets").code == 404, "the kind to go")


def test_unknown_kinds_and_paths_are_not_found(api):
    for path in ("/apis/apps/v1/nonsense", "/apis/no.such.group/v1/things", "/api/v1/nonsense"):
        assert api.get(path).code == 404


# Creating -----------------------------------------------------------------------------------------


def test_creation_fills_in_the_servers_metadata(api, deployments):
    made = api.post(deployments, deployment("a")).expect(201)
    meta = made["metadata"]
    assert meta["uid"] and meta["creationTimestamp"] and int(meta["resourceVersion"]) > 0
    assert meta["generation"] == 1
    assert made["spec"]["revisionHistoryLimit"] == 10
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_creating_twice_is_refused_as_existing(api, maps):
    api.post(maps, config_map("a")).expect(201)
    refused = api.post(maps, config_map("a")).expect(409)
    assert refused["reason"] == "AlreadyExists" and refused["status"] == "Failure"
    assert refused["message"] == 'configmaps "a" already exists'
    assert refused["details"] == {"name": "a", "kind": "configmaps"}


def test_generated_names_are_unique(api, maps):
    value = config_map("")
    value["metadata"] = {"generateName": "x-"}
    names = {api.post(maps, value).expect(201)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5 and all(len(name) == 7 and name.startswith("x-") for name in names)


def test_creation_refuses_what_cannot_be(api, maps, things):
    wrong = config_map("a")
    wrong["metadata"]["resourceVersion"] = "5"
    refused = api.post(maps, wrong)
    assert "resourceVersion should not be set" in refused.json()["message"]
    assert refused.code in (400, 500)
    assert api.post(maps, config_map("Not_A_Name")).expect(422)["reason"] == "Invalid"
    assert ("FieldValueInvalid", "metadata.name") in api.post(maps, config_map("N_A")).causes()
    elsewhere = config_map("a")
    elsewhere["metadata"]["namespace"] = "default"
    assert api.post(maps, elsewhere).code == 400
    assert api.post(maps, widget("a")).code == 400
    assert api.post(maps, b"{", kind="application/json").code == 400
    missing = maps.replace("/t-", "/missing-")
    assert api.post(missing, config_map("a")).expect(404)["details"]["kind"] == "namespaces"
    unversioned = widget("a")
    unversioned["apiVersion"] = f"{objects.GROUP}/v2"
    assert api.post(things, unversioned).code == 400


def test_wrong_types_in_built_in_objects_are_bad_requests(api, deployments):
    value = deployment("a")
    value["spec"]["replicas"] = "many"
    refused = api.post(deployments, value).expect(400)
    assert refused["reason"] == "BadRequest" and "Deployment" in refused["message"]


def test_quantities_are_written_in_their_canonical_form(api, namespace):
    limits = {"cpu": "0.5", "memory": "1024Mi", "nvidia.com/gpu": 1}
    value = pod("a", [objects.container(resources={"limits": limits})], nodeSelector=objects.NOWHERE)
    made = api.post(CORE.format(namespace) + "/pods", value).expect(201)
    resources = made["spec"]["containers"][0]["resources"]
    assert resources["limits"] == {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}
    assert resources["requests"] == resources["limits"]


def test_dry_runs_change_nothing(api, maps):
    made = api.post(maps, config_map("a"), dryRun="All").expect(201)
    assert made["metadata"]["uid"]
    assert api.get(f"{maps}/a").code == 404
    api.post(maps, config_map("a", k="1")).expect(201)
    api.patch(f"{maps}/a", {"data": {"k": "2"}}, dryRun="All").expect(200)
    api.delete(f"{maps}/a", dryRun="All").expect(200)
    assert api.get(f"{maps}/a").expect(200)["data"] == {"k": "1"}
    assert api.post(maps, config_map("b"), dryRun="Some").code in (400, 422)


def test_missing_objects_are_named(api, maps, things):
    refused = api.get(f"{maps}/a").expect(404)
    assert refused["reason"] == "NotFound" and refused["message"] == 'configmaps "a" not found'
    refused = api.get(f"{things}/a").expect(404)
    assert refused["message"] == f'widgets.{objects.GROUP} "a" not found'
    assert refused["details"] == {"name": "a", "group": objects.GROUP, "kind": "widgets"}


# Changing -----------------------------------------------------------------------------------------


def test_a_stale_version_is_a_conflict(api, maps):
    first = api.post(maps, config_map("a")).expect(201)
    second = api.put(f"{maps}/a", {**first, "data": {"k": "1"}}).expect(200)
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    refused = api.put(f"{maps}/a", {**first, "data": {"k": "2"}}).expect(409)
    assert refused["reason"] == "Conflict"
    assert refused["message"] == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply'
        " your changes to the latest version and try again")
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]},
             "data": {"k": "3"}}
    assert api.patch(f"{maps}/a", stale).code == 409


def test_updates_without_a_version_are_for_some_kinds_only(api, maps, things):
    api.post(maps, config_map("a")).expect(201)
    assert api.put(f"{maps}/a", config_map("a", k="1")).expect(200)["data"] == {"k": "1"}
    api.post(things, widget("a")).expect(201)
    refused = api.put(f"{things}/a", widget("a", 2))
    assert refused.expect(422)["reason"] == "Invalid"
    assert ("FieldValueInvalid", "metadata.resourceVersion") in refused.causes()


def test_a_write_that_changes_nothing_keeps_the_version(api, maps):
    made = api.post(maps, config_map("a", k="1")).expect(201)
    again = api.patch(f"{maps}/a", {"data": {"k": "1"}}).expect(200)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_generation_rises_with_the_spec_only(api, things):
    api.post(things, widget("a")).expect(201)
    labelled = api.patch(f"{things}/a", {"metadata": {"labels": {"x": "y"}}}).expect(200)
    assert labelled["metadata"]["generation"] == 1
    changed = api.patch(f"{things}/a", {"spec": {"size": 2}}).expect(200)
    assert changed["metadata"]["generation"] == 2
    told = api.patch(f"{things}/a/status", {"status": {"size": 2}}).expect(200)
    assert told["metadata"]["generation"] == 2


def test_status_and_spec_are_written_apart(api, things):
    value = {**widget("a"), "status": {"phase": "Fine"}}
    made = api.post(things, value).expect(201)
    assert "status" not in made
    ignored = api.put(f"{things}/a", {**made, "status": {"phase": "Fine"}}).expect(200)
    assert "status" not in ignored
    wanted = {**ignored, "spec": {"size": 50}, "status": {"phase": "Fine"}}
    wanted["metadata"] = {**wanted["metadata"], "labels": {"x": "y"}}
    told = api.put(f"{things}/a/status", wanted).expect(200)
    assert told["status"] == {"phase": "Fine"} and told["spec"]["size"] == 1
    assert "labels" not in told["metadata"]


def test_identity_cannot_change(api, maps):
    made = api.post(maps, config_map("a")).expect(201)
    other = {**made, "metadata": {**made["metadata"], "name": "b"}}
    assert api.put(f"{maps}/a", other).code == 400
    other = {**made, "metadata": {**made["metadata"], "uid": "another"}}
    assert api.put(f"{maps}/a", other).code == 409


def test_selectors_of_deployments_are_immutable(api, deployments):
    value = deployment("a", nodeSelector=objects.NOWHERE)
    api.post(deployments, value).expect(201)
    value["spec"]["selector"] = {"matchLabels": {"app": "b"}}
    value["spec"]["template"]["metadata"]["labels"] = {"app": "b"}
    refused = api.put(f"{deployments}/a", value)
    assert refused.expect(422) and ("FieldValueInvalid", "spec.selector") in refused.causes()
    unmatched = deployment("b")
    unmatched["spec"]["template"]["metadata"]["labels"] = {"app": "c"}
    assert ("FieldValueInvalid", "spec.template.metadata.labels") in \
        api.post(deployments, unmatched).causes()


# Patching -----------------------------------------------------------------------------------------


def test_merge_patches_set_and_delete(api, maps):
    api.post(maps, config_map("a", k="1", l="2")).expect(201)
    found = api.patch(f"{maps}/a", {"data": {"k": None, "m": "3"}}).expect(200)
    assert found["data"] == {"l": "2", "m": "3"}


def test_json_patches_test_add_and_remove(api, maps):
    api.post(maps, config_map("a", k="1")).expect(201)
    good = [{"op": "test", "path": "/data/k", "value": "1"},
            {"op": "add", "path": "/data/a~1b", "value": "2"}, {"op": "remove", "path": "/data/k"}]
    assert api.patch(f"{maps}/a", good, JSON_PATCH).expect(200)["data"] == {"a/b": "2"}
    assert api.patch(f"{maps}/a", good, JSON_PATCH).code == 422
    missing = [{"op": "remove", "path": "/data/none"}]
    assert api.patch(f"{maps}/a", missing, JSON_PATCH).code == 422


def test_strategic_patches_know_lists_by_their_keys(api, deployments):
    containers = [objects.container(env=[{"name": "A", "value": "1"}]),
                  {"name": "side", "image": "pause:1"}]
    api.post(deployments, deployment("a", 0, containers)).expect(201)
    patch = {"spec": {"template": {"spec": {"containers": [
        {"name": "main", "image": "pause:2", "env": [{"name": "B", "value": "2"}]},
        {"name": "side", "$patch": "delete"}]}}}}
    found = api.patch(f"{deployments}/a", patch, STRATEGIC).expect(200)
    main, = found["spec"]["template"]["spec"]["containers"]
    assert main["image"] == "pause:2"
    assert {e["name"]: e["value"] for e in main["env"]} == {"A": "1", "B": "2"}
    recreate = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    found = api.patch(f"{deployments}/a", recreate, STRATEGIC).expect(200)
    assert found["spec"]["strategy"] == {"type": "Recreate"}


def test_some_patches_are_not_understood(api, things):
    api.post(things, widget("a")).expect(201)
    assert api.patch(f"{things}/a", {}, STRATEGIC).expect(415)["reason"] == "UnsupportedMediaType"
    assert api.patch(f"{things}/a", {}, "application/json").code == 415
    assert api.patch(f"{things}/missing", {}).code == 404


# Server-side apply --------------------------------------------------------------------------------


def owners(value, operation="Apply"):
    return {e["manager"]: e["fieldsV1"] for e in value["metadata"]["managedFields"]
            if e["operation"] == operation}


def test_apply_creates_and_says_who_manages_what(api, things):
    made = api.apply(f"{things}/a", widget("a", 3), "one").expect(201)
    assert owners(made) == {"one": {"f:spec": {"f:size": {}}}}
    again = api.apply(f"{things}/a", widget("a", 3), "one").expect(200)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_apply_conflicts_name_the_field_and_its_manager(api, things):
    api.apply(f"{things}/a", widget("a", 3), "one").expect(201)
    refused = api.apply(f"{things}/a", widget("a", 4), "two")
    body = refused.expect(409)
    assert body["reason"] == "Conflict"
    assert refused.causes() == [("FieldManagerConflict", ".spec.size")]
    assert 'conflict with "one"' in body["details"]["causes"][0]["message"]
    forced = api.apply(f"{things}/a", widget("a", 4), "two", force="true").expect(200)
    assert forced["spec"]["size"] == 4 and owners(forced).keys() == {"two"}


def test_applying_the_same_value_shares_the_field(api, things):
    api.apply(f"{things}/a", widget("a", 3), "one").expect(201)
    both = api.apply(f"{things}/a", widget("a", 3), "two").expect(200)
    assert owners(both).keys() == {"one", "two"}


def test_a_field_left_out_is_removed_unless_another_holds_it(api, things):
    api.apply(f"{things}/a", widget("a", 3, name="x", words=["a"]), "one").expect(201)
    api.apply(f"{things}/a", widget("a", 3, words=["a"]), "two").expect(200)
    found = api.apply(f"{things}/a", widget("a", 3), "one").expect(200)
    assert "name" not in found["spec"] and found["spec"]["words"] == ["a"]
    found = api.apply(f"{things}/a", widget("a", 3), "two").expect(200)
    assert "words" not in found["spec"]


def test_keyed_lists_and_sets_have_several_managers(api, things):
    api.apply(f"{things}/a", widget("a", parts=[{"name": "x", "count": 1}], tags=["a"]),
              "one").expect(201)
    both = api.apply(f"{things}/a", widget("a", parts=[{"name": "y", "count": 2}], tags=["b"]),
                     "two").expect(200)
    assert [p["name"] for p in both["spec"]["parts"]] == ["x", "y"]
    assert both["spec"]["tags"] == ["a", "b"]
    left = api.apply(f"{things}/a", widget("a"), "one").expect(200)
    assert [p["name"] for p in left["spec"]["parts"]] == ["y"] and left["spec"]["tags"] == ["b"]
    lists = api.apply(f"{things}/a", widget("a", words=["x"]), "one").expect(200)
    assert lists["spec"]["words"] == ["x"]
    assert api.apply(f"{things}/a", widget("a", words=["y"]), "two").code == 409


def test_updates_take_fields_over(api, things):
    api.apply(f"{things}/a", widget("a", 3), "one").expect(201)
    changed = api.patch(f"{things}/a", {"spec": {"size": 5}}, fieldManager="hand").expect(200)
    assert "hand" in owners(changed, "Update") and "one" not in owners(changed)
    refused = api.apply(f"{things}/a", widget("a", 3), "one")
    assert refused.expect(409) and "hand" in refused.json()["message"]


def test_apply_to_the_status_owns_the_status_only(api, things):
    api.apply(f"{things}/a", widget("a", 3), "one").expect(201)
    value = {**widget("a", 9), "status": {"phase": "Fine"}}
    told = api.apply(f"{things}/a/status", value, "two").expect(200)
    assert told["status"] == {"phase": "Fine"} and told["spec"]["size"] == 3
    mine = owners(told)["two"]
    assert mine["f:status"] == {"f:phase": {}}


def test_apply_refuses_what_it_cannot_use(api, things):
    path = f"{things}/a"
    assert api.call("PATCH", path, widget("a"), APPLY).code in (400, 422)
    owned = widget("a")
    owned["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply"}]
    assert api.apply(path, owned, "one").code == 400
    assert api.apply(path, widget("b"), "one").code == 400
    assert api.call("PATCH", path, b"{a: [", APPLY, fieldManager="one").code == 400


def test_apply_takes_yaml_and_built_in_lists_by_key(api, deployments):
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  replicas: 0
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - {name: main, image: 'pause:1', env: [{name: A, value: '1'}]}
"""
    made = api.call("PATCH", f"{deployments}/a", text, APPLY, fieldManager="one").expect(201)
    fields = owners(made)["one"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert fields.keys() == {'k:{"name":"main"}'}
    other = text.replace("name: A, value: '1'", "name: B, value: '2'").replace("replicas: 0", "")
    both = api.call("PATCH", f"{deployments}/a", other, APPLY, fieldManager="two").expect(200)
    env = both["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [e["name"] for e in env] == ["A", "B"] and both["spec"]["replicas"] == 0


def test_scale_writes_take_the_replicas_from_the_applier(api, target, deployments):
    target.needs(22, "tracking the managers of /scale")
    value = deployment("a", 0, nodeSelector=objects.NOWHERE)
    api.apply(f"{deployments}/a", value, "one").expect(201)
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}, fieldManager="scaler").expect(200)
    refused = api.apply(f"{deployments}/a", value, "one")
    assert refused.expect(409) and refused.causes() == [("FieldManagerConflict", ".spec.replicas")]
    del value["spec"]["replicas"]
    assert api.apply(f"{deployments}/a", value, "one").expect(200)["spec"]["replicas"] == 2


# Scale --------------------------------------------------------------------------------------------


def test_scale_shows_and_sets_replicas(api, deployments):
    made = api.post(deployments, deployment("a", 2, nodeSelector=objects.NOWHERE)).expect(201)
    path = f"{deployments}/a/scale"
    found = api.get(path).expect(200)
    assert (found["apiVersion"], found["kind"]) == ("autoscaling/v1", "Scale")
    assert found["spec"] == {"replicas": 2} and found["status"]["selector"] == "app=a"
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    found["spec"]["replicas"] = 3
    fresh = eventually(lambda: _put_scale(api, path, 3), "a write with the present version")
    assert fresh["spec"]["replicas"] == 3
    now = api.get(f"{deployments}/a").expect(200)
    assert now["spec"]["replicas"] == 3 and now["metadata"]["generation"] == 2
    found["spec"]["replicas"] = 9
    assert api.put(path, found).expect(409)["reason"] == "Conflict"
    patched = api.patch(path, {"spec": {"replicas": 0}}).expect(200)
    assert patched["spec"] == {}
    assert api.patch(path, {"spec": {"replicas": -1}}).expect(422)["reason"] == "Invalid"


def _put_scale(api, path, replicas):
    """Replaces a scale, unless a controller's write came between: then nothing."""
    found = api.get(path).expect(200)
    found["spec"]["replicas"] = replicas
    answer = api.put(path, found)
    assert answer.code in (200, 409)
    return answer.json() if answer.code == 200 else None


def test_custom_kinds_have_scale(api, things):
    made = api.post(things, widget("a", 4)).expect(201)
    api.patch(f"{things}/a/status", {"status": {"size": 2, "selector": "app=a"}}).expect(200)
    found = api.get(f"{things}/a/scale").expect(200)
    assert found["spec"] == {"replicas": 4}
    assert found["status"] == {"replicas": 2, "selector": "app=a"}
    stale = {**found, "spec": {"replicas": 5},
             "metadata": {**found["metadata"],
                          "resourceVersion": made["metadata"]["resourceVersion"]}}
    assert api.put(f"{things}/a/scale", stale).code == 409
    found["spec"]["replicas"] = 5
    api.put(f"{things}/a/scale", found).expect(200)
    now = api.get(f"{things}/a").expect(200)
    assert now["spec"]["size"] == 5 and now["metadata"]["generation"] == 2
    assert now["status"]["size"] == 2


# Lists --------------------------------------------------------------------------------------------


def names(listed):
    return [item["metadata"]["name"] for item in listed["items"]]


def test_pages_show_one_moment(api, maps):
    for index in range(5):
        api.post(maps, config_map(f"a{index}", {"page": "yes"})).expect(201)
    query = {"labelSelector": "page=yes"}
    first = api.get(maps, limit=2, **query).expect(200)
    assert names(first) == ["a0", "a1"] and first["kind"] == "ConfigMapList"
    api.post(maps, config_map("a25", {"page": "yes"})).expect(201)
    token = first["metadata"]["continue"]
    second = api.get(maps, limit=2, **{"continue": token}, **query).expect(200)
    assert names(second) == ["a2", "a3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = api.get(maps, limit=2, **{"continue": second["metadata"]["continue"]}, **query).expect(200)
    assert names(last) == ["a4"] and not last["metadata"].get("continue")
    assert "a25" in names(api.get(maps).expect(200))


def test_pages_count_what_remains(api, things):
    for index in range(3):
        api.post(things, widget(f"a{index}")).expect(201)
    first = api.get(things, limit=1).expect(200)
    assert first["metadata"]["remainingItemCount"] == 2


def test_continue_tokens_expire(api, target, things):
    for index in range(3):
        api.post(things, widget(f"a{index}")).expect(201)
    token = api.get(things, limit=1).expect(200)["metadata"]["continue"]
    api.post(things, widget("b")).expect(201)
    target.compact()
    refused = api.get(things, limit=1, **{"continue": token}).expect(410)
    assert refused["reason"] == "Expired"
    rest = api.get(things, limit=5, **{"continue": refused["metadata"]["continue"]}).expect(200)
    assert names(rest) == ["a1", "a2", "b"]


def test_list_parameters_are_checked(api, maps):
    assert api.get(maps, **{"continue": "nonsense"}, limit=1).code == 400
    assert api.get(maps, labelSelector="a in (").code == 400
    assert api.get(maps, fieldSelector="data.k=1").code == 400
    assert api.get(maps, resourceVersion="nonsense").code == 400
    assert api.get(maps, resourceVersionMatch="Exact").code in (400, 422)


def test_a_version_from_the_future_is_too_large(api, things):
    current = int(api.get(things).expect(200)["metadata"]["resourceVersion"])
    refused = api.get(things, resourceVersion=current + 100_000_000)
    assert refused.expect(504)["reason"] == "Timeout"
    assert refused.causes()[0][0] == "ResourceVersionTooLarge"
    assert refused.json()["details"]["retryAfterSeconds"] == 1


def test_exact_versions_show_the_past(api, things):
    api.post(things, widget("a")).expect(201)
    then = api.get(things).expect(200)["metadata"]["resourceVersion"]
    api.post(things, widget("b")).expect(201)
    past = api.get(things, resourceVersion=then, resourceVersionMatch="Exact", limit=5).expect(200)
    assert names(past) == ["a"] and past["metadata"]["resourceVersion"] == then
    recent = api.get(things, resourceVersion=then, resourceVersionMatch="NotOlderThan").expect(200)
    assert names(recent) == ["a", "b"]


def test_selectors_pick(api, maps):
    api.post(maps, config_map("a", {"app": "x", "tier": "1"})).expect(201)
    api.post(maps, config_map("b", {"app": "y"})).expect(201)
    api.post(maps, config_map("c")).expect(201)

    def picked(**query):
        return [n for n in names(api.get(maps, **query).expect(200)) if n in "abc"]

    assert picked(labelSelector="app=x") == ["a"]
    assert picked(labelSelector="app in (x,y)") == ["a", "b"]
    assert picked(labelSelector="app,tier!=1") == ["b"]
    assert picked(labelSelector="!app") == ["c"]
    assert picked(labelSelector="app notin (x)") == ["b", "c"]
    assert picked(fieldSelector="metadata.name=b") == ["b"]
    assert picked(fieldSelector="metadata.name!=b,metadata.name!=kube-root-ca.crt") == ["a", "c"]


def test_items_of_built_in_lists_have_no_kind(api, maps, things):
    api.post(maps, config_map("a")).expect(201)
    api.post(things, widget("a")).expect(201)
    assert "kind" not in api.get(maps).expect(200)["items"][0]
    assert api.get(things).expect(200)["items"][0]["kind"] == "Widget"


# Watches ------------------------------------------------------------------------------------------


def test_watches_tell_what_happens_after_a_version(api, maps):
    first = api.post(maps, config_map("a")).expect(201)
    start = first["metadata"]["resourceVersion"]
    api.patch(f"{maps}/a", {"data": {"k": "1"}}).expect(200)
    with api.watch(maps, resourceVersion=start, fieldSelector="metadata.name=a") as stream:
        event = stream.next()
        assert (event["type"], event["object"]["data"]) == ("MODIFIED", {"k": "1"})
        assert event["object"]["kind"] == "ConfigMap"
        api.delete(f"{maps}/a").expect(200)
        gone = stream.next()
        assert gone["type"] == "DELETED"
        assert int(gone["object"]["metadata"]["resourceVersion"]) > int(
            event["object"]["metadata"]["resourceVersion"])


def test_watches_without_a_version_begin_with_the_state(api, things):
    api.post(things, widget("a")).expect(201)
    with api.watch(things) as stream:
        event = stream.next()
        assert event["type"] == "ADDED" and event["object"]["metadata"]["name"] == "a"
        api.post(things, widget("b")).expect(201)
        assert stream.next()["object"]["metadata"]["name"] == "b"


def test_objects_come_into_and_leave_a_selection(api, maps):
    version = api.get(maps).expect(200)["metadata"]["resourceVersion"]
    api.post(maps, config_map("a")).expect(201)
    with api.watch(maps, resourceVersion=version, labelSelector="app=x") as stream:
        api.patch(f"{maps}/a", {"metadata": {"labels": {"app": "x"}}}).expect(200)
        assert stream.next()["type"] == "ADDED"
        api.patch(f"{maps}/a", {"data": {"k": "1"}}).expect(200)
        assert stream.next()["type"] == "MODIFIED"
        left = api.patch(f"{maps}/a", {"metadata": {"labels": {"app": "y"}}}).expect(200)
        gone = stream.next()
        assert gone["type"] == "DELETED"
        assert gone["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        assert gone["object"]["metadata"]["labels"] == {"app": "x"}


def test_too_old_a_version_is_an_error_event(api, target, things):
    api.post(things, widget("a")).expect(201)
    with api.watch(things, resourceVersion="1") as stream:
        assert stream.code == 200
        event = stream.next()
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert event["object"]["message"].startswith("too old resource version: 1 (")
        assert stream.next() is None


def test_watches_end_in_order_after_a_last_bookmark(api, things):
    version = api.post(things, widget("a")).expect(201)["metadata"]["resourceVersion"]
    with api.watch(things, resourceVersion=version, allowWatchBookmarks="true",
                   timeoutSeconds=4) as stream:
        events = stream.rest()
    assert events and {e["type"] for e in events} == {"BOOKMARK"}
    bookmark = events[-1]["object"]
    assert bookmark["kind"] == "Widget" and "spec" not in bookmark
    assert int(bookmark["metadata"]["resourceVersion"]) >= int(version)


def test_watch_of_one_object_by_its_name(api, maps):
    made = api.post(maps, config_map("a")).expect(201)
    version = made["metadata"]["resourceVersion"]
    api.post(maps, config_map("b")).expect(201)
    api.patch(f"{maps}/a", {"data": {"k": "1"}}).expect(200)
    with api.watch(maps, resourceVersion=version, fieldSelector="metadata.name=a") as stream:
        assert stream.next()["object"]["metadata"]["name"] == "a"


def test_lists_can_be_streamed(api, target, things):
    target.needs(34, "streaming lists by default")
    api.post(things, widget("a")).expect(201)
    api.post(things, widget("b")).expect(201)
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan",
             "allowWatchBookmarks": "true"}
    with api.watch(things, **query) as stream:
        events = [stream.next() for _ in range(3)]
        assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
        meta = events[2]["object"]["metadata"]
        assert meta["annotations"]["k8s.io/initial-events-end"] == "true"
        assert int(meta["resourceVersion"]) >= int(
            events[1]["object"]["metadata"]["resourceVersion"])
        api.delete(f"{things}/a").expect(200)
        assert stream.next()["type"] == "DELETED"
    del query["resourceVersionMatch"]
    with api.watch(things, **query) as stream:
        assert stream.code == 422


# Deleting -----------------------------------------------------------------------------------------


def test_deletion_answers_with_what_went(api, things, maps):
    uid = api.post(things, widget("a")).expect(201)["metadata"]["uid"]
    gone = api.delete(f"{things}/a").expect(200)
    assert gone["status"] == "Success"
    assert gone["details"] == {"name": "a", "group": objects.GROUP, "kind": "widgets", "uid": uid}
    assert api.delete(f"{things}/a").code == 404


def test_deletion_has_preconditions(api, maps):
    made = api.post(maps, config_map("a")).expect(201)["metadata"]
    for wrong in ({"uid": "another"}, {"resourceVersion": "1"}):
        refused = api.delete(f"{maps}/a", {"preconditions": wrong}).expect(409)
        assert refused["reason"] == "Conflict" and "Precondition failed" in refused["message"]
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    api.delete(f"{maps}/a", {"preconditions": right}).expect(200)


def test_finalizers_hold_an_object(api, things):
    value = widget("a")
    value["metadata"]["finalizers"] = ["weir.dev/hold"]
    api.post(things, value).expect(201)
    held = api.delete(f"{things}/a").expect(200)
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["generation"] == 2
    more = {"metadata": {"finalizers": ["weir.dev/hold", "weir.dev/more"]}}
    assert api.patch(f"{things}/a", more).code == 422
    api.patch(f"{things}/a", {"spec": {"size": 7}}).expect(200)
    patch = [{"op": "test", "path": "/metadata/finalizers/0", "value": "weir.dev/hold"},
             {"op": "remove", "path": "/metadata/finalizers/0"}]
    api.patch(f"{things}/a", patch, JSON_PATCH).expect(200)
    assert api.get(f"{things}/a").code == 404


def owned(name, owner, **fields):
    value = config_map(name)
    value["metadata"]["ownerReferences"] = [{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], **fields}]
    return value


def test_dependents_go_with_their_owner_or_stay(api, maps):
    for policy, stays in (("Background", False), ("Foreground", False), ("Orphan", True)):
        owner = api.post(maps, config_map("owner")).expect(201)
        api.post(maps, owned("owned", owner, blockOwnerDeletion=True)).expect(201)
        api.delete(f"{maps}/owner", {"propagationPolicy": policy}).expect(200)
        eventually(lambda: api.get(f"{maps}/owner").code == 404, f"{policy}: the owner to go")
        if stays:
            kept = api.get(f"{maps}/owned").expect(200)
            assert not kept["metadata"].get("ownerReferences")
            api.delete(f"{maps}/owned").expect(200)
        else:
            eventually(lambda: api.get(f"{maps}/owned").code == 404, f"{policy}: the owned to go")


def test_collections_are_deleted_by_selector(api, maps):
    api.post(maps, config_map("a", {"app": "x"})).expect(201)
    api.post(maps, config_map("b")).expect(201)
    api.delete(maps, labelSelector="app=x").expect(200)
    left = names(api.get(maps).expect(200))
    assert "a" not in left and "b" in left


def test_bound_pods_have_time_to_end(api, namespace):
    pods = CORE.format(namespace) + "/pods"
    api.post(pods, pod("free", nodeSelector=objects.NOWHERE)).expect(201)
    api.delete(f"{pods}/free").expect(200)
    assert api.get(f"{pods}/free").code == 404
    api.post(pods, pod("bound", nodeName="no-such-node",
                       terminationGracePeriodSeconds=40)).expect(201)
    held = api.delete(f"{pods}/bound").expect(200)
    assert held["metadata"]["deletionGracePeriodSeconds"] == 40
    shorter = api.delete(f"{pods}/bound", {"gracePeriodSeconds": 20}).expect(200)
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 20
    api.delete(f"{pods}/bound", {"gracePeriodSeconds": 0}).expect(200)
    assert api.get(f"{pods}/bound").code == 404


def test_namespaces_take_everything_with_them(api, namespace):
    maps = CORE.format(namespace) + "/configmaps"
    api.post(maps, config_map("a")).expect(201)
    going = api.delete(f"/api/v1/namespaces/{namespace}").expect(200)
    assert going["status"]["phase"] == "Terminating"
    refused = api.post(maps, config_map("b"))
    assert refused.code in (403, 404)
    eventually(lambda: api.get(f"/api/v1/namespaces/{namespace}").code == 404, "the namespace to go",
               timeout=60)
    assert api.get(f"{maps}/a").code == 404


# Custom resources ---------------------------------------------------------------------------------


def test_schemas_default_and_prune(api, things):
    value = widget("a", parts=[{"name": "x", "extra": 1}], unknown=True, free={"any": {"thing": 1}})
    made = api.post(things, value).expect(201)
    assert made["spec"] == {"size": 1, "color": "red", "parts": [{"name": "x", "count": 1}],
                            "free": {"any": {"thing": 1}}}


@pytest.mark.parametrize("spec, cause", [
    ({"size": "big"}, ("FieldValueTypeInvalid", "spec.size")),
    ({"size": 101}, ("FieldValueInvalid", "spec.size")),
    ({"size": -1}, ("FieldValueInvalid", "spec.size")),
    ({"color": "blue"}, ("FieldValueNotSupported", "spec.color")),
    ({"name": "A1"}, ("FieldValueInvalid", "spec.name")),
    ({"weights": {"x": -1}}, ("FieldValueInvalid", "spec.weights.x")),
    ({"parts": [{"count": 1}]}, ("FieldValueRequired", "spec.parts[0].name")),
    ({"parts": [{"name": "x"}, {"name": "x"}]}, ("FieldValueDuplicate", "spec.parts[1]")),
    ({"tags": ["a", "a"]}, ("FieldValueDuplicate", "spec.tags[1]")),
])
def test_schemas_refuse(api, target, things, spec, cause):
    refused = api.post(things, widget("a", **{"size": 1, **spec}))
    body = refused.expect(422)
    assert body["reason"] == "Invalid" and body["details"]["kind"] == "Widget"
    assert body["message"].startswith(f'Widget.{objects.GROUP} "a" is invalid: ')
    reason, field = cause
    found = refused.causes()
    if target.minor < 25 and reason in ("FieldValueTypeInvalid", "FieldValueRequired"):
        # Older servers write the same fields with other reasons or bracketed in a parent.
        assert any(f == field for _, f in found)
    else:
        assert cause in found


def test_required_fields_are_required(api, things):
    value = widget("a")
    del value["spec"]["size"]
    refused = api.post(things, value)
    assert refused.expect(422) and ("FieldValueRequired", "spec.size") in refused.causes()


def test_the_status_is_validated_too(api, things):
    api.post(things, widget("a")).expect(201)
    assert api.patch(f"{things}/a/status", {"status": {"size": "big"}}).code == 422


def test_numbers_or_words_where_a_schema_allows_both(api, things):
    for index, port in enumerate((80, "http")):
        api.post(things, widget(f"a{index}", port=port)).expect(201)
    assert api.post(things, widget("b", port=True)).code == 422


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
    rules = [{"rule": "self.size < 50 || self.color == 'green'", "message": "big ones are green"},
             {"rule": "self.size >= oldSelf.size", "messageExpression":
              "'cannot shrink from ' + string(oldSelf.size)", "fieldPath": ".size"},
             {"rule": "!has(self.name) || !self.name.startsWith('x')", "reason":
              "FieldValueForbidden"}]
    definition = objects.widget_definition(rules, plural="rulers", kind="Ruler")
    assert api.post(objects.DEFINITIONS, definition).code in (201, 409)
    path = f"{objects.wait_served(api, 'rulers')}/namespaces/default/rulers"

    def ruler(**spec):
        return {"apiVersion": f"{objects.GROUP}/v1", "kind": "Ruler",
                "metadata": {"name": "a"}, "spec": {"size": 1, **spec}}

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
    accounts = CORE.format(namespace) + "/serviceaccounts"
    api.post(accounts, {"apiVersion": "v1", "kind": "ServiceAccount",
                        "metadata": {"name": name}}).expect(201)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
               "spec": {"expirationSeconds": 3600, "audiences": []}}
    return api.post(f"{accounts}/{name}/token", request).expect(201)["status"]["token"]


def grant(api, namespace, name, rules):
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    version = "rbac.authorization.k8s.io/v1"
    api.post(f"{root}/roles", {"apiVersion": version, "kind": "Role", "metadata": {"name": name},
                               "rules": rules}).expect(201)
    api.post(f"{root}/rolebindings", {
        "apiVersion": version, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]}).expect(201)


def test_roles_decide_what_an_account_may(api, namespace, maps, deployments):
    user = kube.Kube(api.kubeconfig, token=account_token(api, namespace, "robot"))
    refused = user.get(maps).expect(403)
    name = f"system:serviceaccount:{namespace}:robot"
    assert refused["reason"] == "Forbidden" and refused["message"] == (
        f'configmaps is forbidden: User "{name}" cannot list resource "configmaps" in API group "" in'
        f' the namespace "{namespace}"')
    assert refused["details"] == {"kind": "configmaps"}
    grant(api, namespace, "robot", [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "resourceNames": ["a"],
         "verbs": ["get"]}])
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
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
              "spec": {"resourceAttributes": {"namespace": namespace, "verb": "list",
                                              "resource": "configmaps"}}}
    assert not user.post(path, review).expect(201)["status"]["allowed"]
    assert api.post(path, review).expect(201)["status"]["allowed"]
    user.close()


# Leases and events --------------------------------------------------------------------------------


def test_leases_change_hands_by_compare_and_set(api, namespace):
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    now = "2026-01-02T03:04:05.000006Z"
    made = api.post(path, {
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15, "acquireTime": now,
                 "renewTime": now, "leaseTransitions": 0}}).expect(201)
    assert made["spec"]["renewTime"] == now
    mine = {**made, "spec": {**made["spec"], "holderIdentity": "two", "leaseTransitions": 1}}
    api.put(f"{path}/a", mine).expect(200)
    assert api.put(f"{path}/a", mine).code == 409
    wrong = {**made, "metadata": {"name": "a"}}
    assert api.put(f"{path}/a", wrong).code == 422
    assert api.patch(f"{path}/a", {"spec": {"leaseDurationSeconds": 0}}).code == 422


def event(namespace, name, **fields):
    return {"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": "2026-01-02T03:04:05.000006Z", "reportingController": "weir.dev/controller",
            "reportingInstance": "pod-1", "action": "Scale", "reason": "ScaledUp", "type": "Normal",
            "note": "from 1 to 2", "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "a",
                                                 "namespace": namespace}, **fields}


def test_events_are_the_same_in_both_groups(api, namespace):
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    api.post(path, event(namespace, "a")).expect(201)
    core = api.get(CORE.format(namespace) + "/events/a").expect(200)
    assert core["message"] == "from 1 to 2" and core["involvedObject"]["name"] == "a"
    assert core["reportingComponent"] == "weir.dev/controller"
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}}
    assert api.patch(f"{path}/a", series).expect(200)["series"]["count"] == 2
    found = api.get(CORE.format(namespace) + "/events", fieldSelector="involvedObject.name=a")
    assert names(found.expect(200)) == ["a"]


@pytest.mark.parametrize("change", [
    {"reportingController": ""}, {"reportingInstance": ""}, {"action": ""}, {"reason": ""},
    {"type": "Other"}, {"note": "x" * 1025}, {"action": "x" * 129},
])
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
    row, = table["rows"]
    assert row["cells"][:2] == ["a", 7] and row["object"]["kind"] == "PartialObjectMetadata"


# Controllers --------------------------------------------------------------------------------------
#
# No node has the label that these pods want, so the tests play the kubelet: a pod is ready when the
# test says so, and everything else is up to the cluster's controllers.


def set_ready(api, pods, name, ready=True, address=None):
    state = "True" if ready else "False"
    now = "2026-01-02T03:04:05Z"
    status = {"phase": "Running", "conditions": [
        {"type": kind, "status": state, "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady")]}
    if address:
        status.update({"podIP": address, "podIPs": [{"ip": address}]})
    api.patch(f"{pods}/{name}/status", {"status": status}).expect(200)


def listed(api, pods, **query):
    found = [p for p in api.get(pods, **query).expect(200)["items"]
             if not p["metadata"].get("deletionTimestamp")]
    return sorted(found, key=lambda p: p["metadata"]["name"])


def have_pods(api, pods, count, **query):
    return eventually(lambda: (found := listed(api, pods, **query)) and len(found) == count and found,
                      f"{count} pods")


def all_ready(api, pods, count, **query):
    for found in have_pods(api, pods, count, **query):
        set_ready(api, pods, found["metadata"]["name"])


@pytest.fixture
def pods(namespace):
    return CORE.format(namespace) + "/pods"


def test_deployments_make_pods_and_count_the_ready(api, deployments, pods, namespace):
    api.post(deployments, deployment("a", 2, nodeSelector=objects.NOWHERE)).expect(201)
    found = have_pods(api, pods, 2)
    owner = found[0]["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "ReplicaSet" and owner["controller"]
    word = found[0]["metadata"]["labels"]["pod-template-hash"]
    assert owner["name"] == f"a-{word}"
    all_ready(api, pods, 2)

    def complete():
        status = api.get(f"{deployments}/a").expect(200).get("status", {})
        return status.get("readyReplicas") == 2 and status.get("availableReplicas") == 2 and status

    status = eventually(complete, "both to be ready")
    assert status["updatedReplicas"] == status["replicas"] == 2
    assert status["observedGeneration"] == 1 and "unavailableReplicas" not in status
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")
    eventually(lambda: ("NewReplicaSetAvailable" in str(
        api.get(f"{deployments}/a").json()["status"]["conditions"])), "the end of the progress")


def revision(value):
    return value["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision")


def test_a_new_template_rolls_and_an_old_one_comes_back(api, deployments, pods, namespace):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    made = api.post(deployments, deployment("a", 2, strategy=strategy,
                                            nodeSelector=objects.NOWHERE)).expect(201)
    all_ready(api, pods, 2)
    old = have_pods(api, pods, 2)[0]["metadata"]["labels"]["pod-template-hash"]
    patch = {"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}}
    api.patch(f"{deployments}/a", patch).expect(200)
    fresh = {"labelSelector": f"pod-template-hash!={old}"}
    have_pods(api, pods, 1, **fresh)
    have_pods(api, pods, 3)
    all_ready(api, pods, 1, **fresh)
    have_pods(api, pods, 2, **fresh)
    all_ready(api, pods, 2, **fresh)
    have_pods(api, pods, 2)
    eventually(lambda: revision(api.get(f"{deployments}/a").json()) == "2", "the second revision")
    sets = APPS.format(namespace) + "/replicasets"
    by_hash = {s["metadata"]["labels"]["pod-template-hash"]: s
               for s in api.get(sets).expect(200)["items"]}
    assert revision(by_hash[old]) == "1" and by_hash[old]["spec"]["replicas"] == 0
    template = by_hash[old]["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]
    api.patch(f"{deployments}/a", undo, JSON_PATCH).expect(200)
    back = {"labelSelector": f"pod-template-hash={old}"}
    have_pods(api, pods, 1, **back)
    eventually(lambda: revision(api.get(f"{sets}/a-{old}").json()) == "3", "the third revision")
    assert len(api.get(sets).expect(200)["items"]) == 2
    assert made["metadata"]["uid"] == api.get(f"{deployments}/a").json()["metadata"]["uid"]


def test_recreate_waits_for_the_old_pods_to_go(api, deployments, pods):
    api.post(deployments, deployment("a", 1, strategy={"type": "Recreate"},
                                     nodeSelector=objects.NOWHERE)).expect(201)
    first, = have_pods(api, pods, 1)
    patch = {"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}}
    api.patch(f"{deployments}/a", patch).expect(200)
    eventually(lambda: (found := listed(api, pods)) and len(found) == 1
               and found[0]["metadata"]["uid"] != first["metadata"]["uid"], "the new pod alone")


def test_scaling_down_takes_unready_pods_first(api, deployments, pods):
    api.post(deployments, deployment("a", 3, nodeSelector=objects.NOWHERE)).expect(201)
    found = have_pods(api, pods, 3)
    kept = [p["metadata"]["name"] for p in found[:2]]
    for name in kept:
        set_ready(api, pods, name)
    path = APPS.format(deployments.split("/")[5]) + "/replicasets"
    eventually(lambda: api.get(path).json()["items"][0]["status"].get("readyReplicas") == 2,
               "two to be ready")
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}).expect(200)
    left = have_pods(api, pods, 2)
    assert [p["metadata"]["name"] for p in left] == kept


def test_scaling_down_follows_deletion_costs(api, target, deployments, pods):
    target.needs(22, "pod deletion cost")
    api.post(deployments, deployment("a", 3, nodeSelector=objects.NOWHERE)).expect(201)
    all_ready(api, pods, 3)
    found = have_pods(api, pods, 3)
    victim = found[1]["metadata"]["name"]
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}
    api.patch(f"{pods}/{victim}", cost).expect(200)
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}).expect(200)
    left = have_pods(api, pods, 2)
    assert victim not in [p["metadata"]["name"] for p in left]


def test_quotas_refuse_pods_and_the_refusal_shows(api, deployments, pods, namespace):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
             "spec": {"hard": {"requests.nvidia.com/gpu": "1"}}}
    path = CORE.format(namespace) + "/resourcequotas"
    api.post(path, quota).expect(201)
    eventually(lambda: api.get(f"{path}/gpus").json().get("status", {}).get("hard"), "the quota")
    containers = [objects.container(resources={"limits": {"nvidia.com/gpu": "1"}})]
    api.post(deployments, deployment("a", 2, containers, nodeSelector=objects.NOWHERE)).expect(201)

    def failure():
        conditions = api.get(f"{deployments}/a").json().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "ReplicaFailure"), None)

    found = eventually(failure, "the refusal to show")
    assert found["reason"] == "FailedCreate" and "exceeded quota: gpus" in found["message"]
    assert "requested: requests.nvidia.com/gpu=1" in found["message"]
    assert "limited: requests.nvidia.com/gpu=1" in found["message"]
    assert len(listed(api, pods)) == 1
    value = pod("b", containers)
    refused = api.post(pods, value).expect(403)
    assert refused["reason"] == "Forbidden" and "exceeded quota" in refused["message"]


def test_budgets_refuse_evictions(api, target, deployments, pods, namespace):
    version = "policy/v1" if target.minor >= 21 else "policy/v1beta1"
    budget = {"apiVersion": version, "kind": "PodDisruptionBudget", "metadata": {"name": "a"},
              "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}
    budgets = f"/apis/{version}/namespaces/{namespace}/poddisruptionbudgets"
    api.post(budgets, budget).expect(201)
    api.post(deployments, deployment("a", 1, nodeSelector=objects.NOWHERE)).expect(201)
    all_ready(api, pods, 1)
    name = have_pods(api, pods, 1)[0]["metadata"]["name"]
    eventually(lambda: api.get(f"{budgets}/a").json().get("status", {}).get("currentHealthy") == 1,
               "the budget to count the pod")
    kind = "policy/v1" if target.minor >= 22 else "policy/v1beta1"
    eviction = {"apiVersion": kind, "kind": "Eviction",
                "metadata": {"name": name, "namespace": namespace}}
    refused = api.post(f"{pods}/{name}/eviction", eviction)
    body = refused.expect(429)
    assert body["reason"] == "TooManyRequests"
    assert body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.causes()[0][0] == "DisruptionBudget"
    api.delete(f"{budgets}/a").expect(200)
    eventually(lambda: api.post(f"{pods}/{name}/eviction", eviction).code == 201, "the eviction")


def test_slices_show_which_pods_are_ready(api, target, deployments, pods, namespace):
    version = "v1" if target.minor >= 21 else "v1beta1"
    slices = f"/apis/discovery.k8s.io/{version}/namespaces/{namespace}/endpointslices"
    services = CORE.format(namespace) + "/services"
    api.post(services, objects.service("a")).expect(201)
    api.post(deployments, deployment("a", 2, nodeSelector=objects.NOWHERE)).expect(201)
    first, second = (p["metadata"]["name"] for p in have_pods(api, pods, 2))
    set_ready(api, pods, first, address="10.9.0.1")
    set_ready(api, pods, second, ready=False, address="10.9.0.2")
    selector = {"labelSelector": "kubernetes.io/service-name=a"}

    def endpoints():
        found = {e["addresses"][0]: e for s in api.get(slices, **selector).expect(200)["items"]
                 for e in s["endpoints"] or []}
        return len(found) == 2 and found

    found = eventually(endpoints, "both endpoints")
    assert found["10.9.0.1"]["conditions"]["ready"] is True
    assert found["10.9.0.2"]["conditions"]["ready"] is False
    assert found["10.9.0.1"]["targetRef"]["name"] == first
    one = api.get(slices, **selector).expect(200)["items"][0]
    assert one["addressType"] == "IPv4"
    assert [(p["name"], p["port"], p["protocol"]) for p in one["ports"]] == [("http", 8000, "TCP")]
    set_ready(api, pods, second, address="10.9.0.2")
    eventually(lambda: all(e["conditions"]["ready"] for e in (endpoints() or {"": {"conditions": {
        "ready": False}}}).values()), "both to be ready")


def test_quorum_reads_follow_writes(api, maps):
    for index in range(20):
        api.post(maps, config_map(f"a{index}")).expect(201)
        assert f"a{index}" in names(api.get(maps).expect(200))


def test_patch_media_types_are_named_in_the_refusal(api, maps):
    api.post(maps, config_map("a")).expect(201)
    refused = api.patch(f"{maps}/a", {}, "text/nonsense").expect(415)
    assert MERGE in refused["message"]

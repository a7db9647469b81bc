"""What the Kubernetes API promises, through plain HTTP: what writes to objects do."""

import objects
from kube import APPLY, JSON_PATCH, STRATEGIC, eventually
from objects import config_map, deployment, pod, widget


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
    value = pod(
        "a", [objects.container(resources={"limits": limits})], nodeSelector=objects.NOWHERE
    )
    made = api.post(objects.CORE.format(namespace) + "/pods", value).expect(201)
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
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please'
        " apply your changes to the latest version and try again"
    )
    stale = {
        "metadata": {"resourceVersion": first["metadata"]["resourceVersion"]},
        "data": {"k": "3"},
    }
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
    assert ("FieldValueInvalid", "spec.template.metadata.labels") in api.post(
        deployments, unmatched
    ).causes()


# Patching -----------------------------------------------------------------------------------------


def test_merge_patches_set_and_delete(api, maps):
    api.post(maps, config_map("a", k="1", l="2")).expect(201)
    found = api.patch(f"{maps}/a", {"data": {"k": None, "m": "3"}}).expect(200)
    assert found["data"] == {"l": "2", "m": "3"}


def test_json_patches_test_add_and_remove(api, maps):
    value = config_map("a", k="1")
    value["metadata"]["annotations"] = {"x": "y"}
    api.post(maps, value).expect(201)
    good = [
        {"op": "test", "path": "/data/k", "value": "1"},
        {"op": "add", "path": "/metadata/annotations/a.b~1c", "value": "2"},
        {"op": "remove", "path": "/data/k"},
    ]
    found = api.patch(f"{maps}/a", good, JSON_PATCH).expect(200)
    assert found["metadata"]["annotations"] == {"x": "y", "a.b/c": "2"} and not found.get("data")
    assert api.patch(f"{maps}/a", good, JSON_PATCH).code == 422
    missing = [{"op": "remove", "path": "/data/none"}]
    assert api.patch(f"{maps}/a", missing, JSON_PATCH).code == 422


def test_strategic_patches_know_lists_by_their_keys(api, deployments):
    containers = [
        objects.container(env=[{"name": "A", "value": "1"}]),
        {"name": "side", "image": "pause:1"},
    ]
    api.post(deployments, deployment("a", 0, containers)).expect(201)
    patch = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "main", "image": "pause:2", "env": [{"name": "B", "value": "2"}]},
                        {"name": "side", "$patch": "delete"},
                    ]
                }
            }
        }
    }
    found = api.patch(f"{deployments}/a", patch, STRATEGIC).expect(200)
    (main,) = found["spec"]["template"]["spec"]["containers"]
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
    return {
        e["manager"]: e["fieldsV1"]
        for e in value["metadata"]["managedFields"]
        if e["operation"] == operation
    }


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
    api.apply(
        f"{things}/a", widget("a", parts=[{"name": "x", "count": 1}], tags=["a"]), "one"
    ).expect(201)
    both = api.apply(
        f"{things}/a", widget("a", parts=[{"name": "y", "count": 2}], tags=["b"]), "two"
    ).expect(200)
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


def test_apply_to_the_status_owns_the_status_only(api, target, things):
    target.needs(22, "apply to a status that leaves the spec out of account")
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
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}, fieldManager="scaler").expect(
        200
    )
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
    stale = {
        **found,
        "spec": {"replicas": 5},
        "metadata": {**found["metadata"], "resourceVersion": made["metadata"]["resourceVersion"]},
    }
    assert api.put(f"{things}/a/scale", stale).code == 409
    found["spec"]["replicas"] = 5
    api.put(f"{things}/a/scale", found).expect(200)
    now = api.get(f"{things}/a").expect(200)
    assert now["spec"]["size"] == 5 and now["metadata"]["generation"] == 2
    assert now["status"]["size"] == 2

"""What the Kubernetes API promises, through plain HTTP: lists, watches and deletions."""

import objects
from kube import JSON_PATCH, eventually
from objects import config_map, names, pod, widget


# Lists --------------------------------------------------------------------------------------------


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
    last = api.get(maps, limit=2, **{"continue": second["metadata"]["continue"]}, **query).expect(
        200
    )
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
    assert api.get(maps, resourceVersion="nonsense").code in (400, 500)
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
    assert sorted(names(recent)) == ["a", "b"]


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
            event["object"]["metadata"]["resourceVersion"]
        )


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
    with api.watch(
        things, resourceVersion=version, allowWatchBookmarks="true", timeoutSeconds=4
    ) as stream:
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
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with api.watch(things, **query) as stream:
        events = [stream.next() for _ in range(3)]
        assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
        meta = events[2]["object"]["metadata"]
        assert meta["annotations"]["k8s.io/initial-events-end"] == "true"
        assert int(meta["resourceVersion"]) >= int(
            events[1]["object"]["metadata"]["resourceVersion"]
        )
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
    for wrong, word in (({"uid": "another"}, "UID"), ({"resourceVersion": "1"}, "ResourceVersion")):
        refused = api.delete(f"{maps}/a", {"preconditions": wrong}).expect(409)
        assert refused["reason"] == "Conflict"
        assert f"the {word} in the precondition" in refused["message"]
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
    patch = [
        {"op": "test", "path": "/metadata/finalizers/0", "value": "weir.dev/hold"},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]
    api.patch(f"{things}/a", patch, JSON_PATCH).expect(200)
    assert api.get(f"{things}/a").code == 404


def owned(name, owner, **fields):
    value = config_map(name)
    value["metadata"]["ownerReferences"] = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            **fields,
        }
    ]
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
    pods = objects.CORE.format(namespace) + "/pods"
    api.post(pods, pod("free", nodeSelector=objects.NOWHERE)).expect(201)
    api.delete(f"{pods}/free").expect(200)
    assert api.get(f"{pods}/free").code == 404
    api.post(pods, pod("bound", nodeName="no-such-node", terminationGracePeriodSeconds=40)).expect(
        201
    )
    held = api.delete(f"{pods}/bound").expect(200)
    assert held["metadata"]["deletionGracePeriodSeconds"] == 40
    shorter = api.delete(f"{pods}/bound", {"gracePeriodSeconds": 20}).expect(200)
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 20
    api.delete(f"{pods}/bound", {"gracePeriodSeconds": 0}).expect(200)
    assert api.get(f"{pods}/bound").code == 404


def test_namespaces_take_everything_with_them(api, namespace):
    maps = objects.CORE.format(namespace) + "/configmaps"
    api.post(maps, config_map("a")).expect(201)
    going = api.delete(f"/api/v1/namespaces/{namespace}").expect(200)
    assert going["status"]["phase"] == "Terminating"
    refused = api.post(maps, config_map("b"))
    assert refused.code in (403, 404)
    eventually(
        lambda: api.get(f"/api/v1/namespaces/{namespace}").code == 404,
        "the namespace to go",
        timeout=60,
    )
    assert api.get(f"{maps}/a").code == 404

import Control
import Core
import EventLoop
import Foundation
import Glibc
import LoopTestSupport
import Testing

/// A watcher of `weir.yaml` in a folder of its own.
private final class Watch {
    let harness: LoopHarness
    let folder: TemporaryFolder
    private(set) var changes = 0
    private var watcher: FileWatcher?

    init(
        _ paths: [String] = ["weir.yaml"],
        prepare: (TemporaryFolder) throws -> Void = { try $0.write("weir.yaml", "old") }
    ) throws {
        self.harness = try LoopHarness()
        self.folder = try TemporaryFolder()
        try prepare(self.folder)
        self.watcher = FileWatcher(
            loop: self.harness.loop,
            paths: paths.map { self.folder.file($0) }
        ) { [unowned self] in self.changes += 1 }
    }

    deinit { self.watcher?.stop() }

    func stop() { self.watcher?.stop() }

    func awaitChange() throws {
        try self.harness.run(until: "a change to be told") { self.changes > 0 }
    }

    /// Longer than changes are gathered.
    func awaitQuiet() throws {
        var isOver = false
        self.harness.loop.schedule(after: .milliseconds(250)) { isOver = true }
        try self.harness.run(until: "some time to pass") { isOver }
    }
}

@Suite struct FileWatcherTests {
    @Test func aFileWrittenInPlaceIsTold() throws {
        let watch = try Watch()
        try watch.awaitQuiet()
        #expect(watch.changes == 0, "nothing happened yet")
        try watch.folder.write("weir.yaml", "new")
        try watch.awaitChange()
    }

    @Test func aFileReplacedByRenameIsToldEachTime() throws {
        let watch = try Watch()
        for round in 1...3 {
            try watch.folder.write("weir.yaml.new", "round \(round)")
            #expect(rename(watch.folder.file("weir.yaml.new"), watch.folder.file("weir.yaml")) == 0)
            try watch.harness.run(until: "round \(round)") { watch.changes >= round }
            try watch.awaitQuiet()
            #expect(watch.changes == round)
        }
    }

    /// As Kubernetes mounts a ConfigMap: `weir.yaml` leads through `..data`, which is switched.
    @Test func aSwitchedLinkIsTold() throws {
        let watch = try Watch { folder in
            try folder.makeFolder("..one")
            try folder.makeFolder("..two")
            try folder.write("..one/weir.yaml", "old")
            try folder.write("..two/weir.yaml", "new")
            #expect(symlink("..one", folder.file("..data")) == 0)
            #expect(symlink("..data/weir.yaml", folder.file("weir.yaml")) == 0)
        }
        #expect(symlink("..two", watch.folder.file("..data_new")) == 0)
        #expect(rename(watch.folder.file("..data_new"), watch.folder.file("..data")) == 0)
        try watch.awaitChange()
        let text = try String(contentsOfFile: watch.folder.file("weir.yaml"), encoding: .utf8)
        #expect(text == "new")
    }

    @Test func aDeletedAndARemadeFileAreTold() throws {
        let watch = try Watch()
        #expect(unlink(watch.folder.file("weir.yaml")) == 0)
        try watch.awaitChange()
        try watch.folder.write("weir.yaml", "new")
        try watch.harness.run(until: "the second change") { watch.changes >= 2 }
    }

    @Test func manyWritesAtOnceAreToldOnce() throws {
        let watch = try Watch()
        for number in 0..<200 { try watch.folder.write("weir.yaml", "\(number)") }
        try watch.awaitChange()
        try watch.awaitQuiet()
        #expect(watch.changes == 1)
    }

    @Test func filesOfSeveralFoldersAreWatched() throws {
        let watch = try Watch(["one/a.yaml", "two/b.yaml", "two/c.yaml"]) { folder in
            try folder.makeFolder("one")
            try folder.makeFolder("two")
            try folder.makeFolder("three")
        }
        try watch.folder.write("three/d.yaml", "nobody asked")
        try watch.awaitQuiet()
        #expect(watch.changes == 0)
        try watch.folder.write("two/c.yaml", "new")
        try watch.awaitChange()
    }

    /// A link may lead out of the folder it is in; what happens where it leads counts.
    @Test func aFileBehindALinkToAnotherFolderIsTold() throws {
        let watch = try Watch { folder in
            try folder.makeFolder("mounted")
            try folder.makeFolder("mounted/..one")
            try folder.makeFolder("mounted/..two")
            try folder.write("mounted/..one/key", "old")
            try folder.write("mounted/..two/key", "new")
            #expect(symlink("..one", folder.file("mounted/..data")) == 0)
            #expect(symlink("..data/key", folder.file("mounted/key")) == 0)
            #expect(symlink(folder.file("mounted/key"), folder.file("weir.yaml")) == 0)
        }
        let mounted = watch.folder.file("mounted/")
        #expect(symlink("..two", mounted + "..data_new") == 0)
        #expect(rename(mounted + "..data_new", mounted + "..data") == 0)
        try watch.awaitChange()
        // Where the link leads now is watched, where it led before no more.
        try watch.awaitQuiet()
        try watch.folder.write("mounted/..one/key", "nobody reads this")
        try watch.awaitQuiet()
        #expect(watch.changes == 1)
        try watch.folder.write("mounted/..two/key", "newer")
        try watch.harness.run(until: "the second change") { watch.changes == 2 }
    }

    @Test func aSwitchedLinkToAFolderOnTheWayIsTold() throws {
        let watch = try Watch(["certificates/key"]) { folder in
            try folder.makeFolder("one")
            try folder.makeFolder("two")
            try folder.write("one/key", "old")
            try folder.write("two/key", "new")
            #expect(symlink("one", folder.file("certificates")) == 0)
        }
        #expect(symlink("two", watch.folder.file("next")) == 0)
        #expect(rename(watch.folder.file("next"), watch.folder.file("certificates")) == 0)
        try watch.awaitChange()
    }

    @Test func aFolderThatIsMadeLaterIsWatched() throws {
        let watch = try Watch(["later/key"]) { _ in }
        try watch.folder.makeFolder("later")
        try watch.awaitChange()
        try watch.folder.write("later/key", "new")
        try watch.harness.run(until: "the second change") { watch.changes >= 2 }
    }

    @Test func otherFilesBesideAreNotTold() throws {
        let watch = try Watch()
        try watch.folder.write("other.yaml", "nobody asked")
        try watch.awaitQuiet()
        #expect(watch.changes == 0)
    }

    @Test func linksThatLeadInCirclesEnd() throws {
        let watch = try Watch(["a", "weir.yaml"]) { folder in
            #expect(symlink("b", folder.file("a")) == 0)
            #expect(symlink("a", folder.file("b")) == 0)
        }
        try watch.folder.write("weir.yaml", "new")
        try watch.awaitChange()
    }

    @Test func aMissingFolderIsLeftOut() throws {
        let watch = try Watch(["nowhere/a.yaml", "weir.yaml"])
        try watch.folder.write("weir.yaml", "new")
        try watch.awaitChange()
    }

    @Test func aStoppedWatcherTellsNothing() throws {
        let watch = try Watch()
        try watch.folder.write("weir.yaml", "new")
        watch.harness.settle()
        // The change was seen and is being gathered.
        watch.stop()
        watch.stop()
        try watch.folder.write("weir.yaml", "newer")
        try watch.awaitQuiet()
        #expect(watch.changes == 0)
    }
}

@Suite struct SignalSourceTests {
    @Test func blockedSignalsArriveOnTheLoop() throws {
        SignalSource.block([SIGUSR1, SIGUSR2])
        let harness = try LoopHarness()
        var received: [Int32] = []
        let source = SignalSource(loop: harness.loop, signals: [SIGUSR1, SIGUSR2]) {
            received.append($0)
        }
        // To this thread alone: others of the test run have not blocked them.
        #expect(pthread_kill(pthread_self(), SIGUSR1) == 0)
        try harness.run(until: "the first signal") { received == [SIGUSR1] }
        #expect(pthread_kill(pthread_self(), SIGUSR2) == 0)
        #expect(pthread_kill(pthread_self(), SIGUSR1) == 0)
        try harness.run(until: "both signals") { received.count == 3 }
        #expect(Set(received) == [SIGUSR1, SIGUSR2])
        source.stop()
        #expect(!source.isRegistered)
    }
}

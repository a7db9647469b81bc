/// Finds a model of protocol HTTP by the request's host and path.
///
/// Host rules: letter case does not count, nor a port or a final dot. `*.example.com` stands for
/// any host that ends in `.example.com`, by one label or more, not for `example.com`. Path rules:
/// letter case counts, escapes are not decoded; a prefix ends at a segment's end: `/score` matches
/// `/score` and `/score/a`, not `/scores`; a slash at its end makes no difference.
///
/// Order: a route for exactly this host, then the longest wildcard, then routes for any host;
/// within one host the longest prefix. A more special host with no fitting prefix falls through to
/// the next.
///
/// Built once; a lookup hashes the host and the path as far as the longest prefix goes.
package struct HostPathTable: Sendable {
    package struct Route: Sendable {
        /// Exact, `*.suffix`, or nil for any host.
        package var host: [UInt8]?
        /// Starts with `/`; nil or `/` for any path.
        package var prefix: [UInt8]?
        package var index: Int

        package init(host: [UInt8]?, prefix: [UInt8]?, index: Int) {
            self.host = host
            self.prefix = prefix
            self.index = index
        }
    }

    package enum Problem: Error, Equatable, Sendable {
        /// Two routes with the same host and prefix lead to different places.
        case duplicate(host: [UInt8]?, prefix: [UInt8])
        case invalidHost([UInt8])
        case invalidPrefix([UInt8])
    }

    package static let routesMax = 1_000_000
    package static let hostBytesMax = 255
    package static let prefixBytesMax = 1024

    /// Number of each host, exact ones and wildcards without their star: `.example.com`.
    private var hosts = ModelTable()
    /// Keys are the host's number, four bytes, and the prefix without a final slash.
    private var paths = ModelTable()
    private var hasWildcards = false
    private var longestPrefix = 0

    /// A table of no routes.
    package init() {}

    package init(routes: [Route]) throws(Problem) {
        precondition(routes.count <= Self.routesMax, "\(routes.count) routes")
        var numbers: [[UInt8]: Int] = [:]
        var entries: [(name: [UInt8], index: Int)] = []
        for route in routes {
            var number = 0
            if let host = route.host {
                let key = try self.hostKey(host)
                number = numbers[key] ?? numbers.count + 1
                numbers[key] = number
            }
            let prefix = try Self.prefixKey(route.prefix)
            self.longestPrefix = max(self.longestPrefix, prefix.count)
            entries.append((Self.pathKey(number) + prefix, route.index))
        }
        let names = numbers.map { (name: $0.key, index: $0.value) }
        do {
            self.hosts = try ModelTable(names: names)
        } catch {
            preconditionFailure("a dictionary has the key \(error.name) twice")
        }
        do {
            self.paths = try ModelTable(names: entries)
        } catch {
            let number = Self.hostNumber(error.name)
            throw .duplicate(
                host: numbers.first { $0.value == number }?.key,
                prefix: Array(error.name.dropFirst(4))
            )
        }
    }

    /// The model of a request. `host` is the authority as received, with or without a port; `path`
    /// has no query.
    package func lookup(host: RawSpan, path: RawSpan) -> Int? {
        if self.paths.count == 0 { return nil }
        // A host that begins with a dot is none, and would look like a wildcard's key.
        if self.hosts.count > 0, let name = Self.normalised(host),
            name.bytes.byte(at: 0) != UInt8(ascii: ".")
        {
            if let number = self.hosts.exact(name.bytes),
                let found = self.longestMatch(host: number, path: path)
            {
                return found
            }
            if self.hasWildcards, let found = self.wildcardMatch(name.bytes, path: path) {
                return found
            }
        }
        return self.longestMatch(host: 0, path: path)
    }

    private func wildcardMatch(_ host: RawSpan, path: RawSpan) -> Int? {
        for index in 1..<max(host.byteCount, 1) where host.byte(at: index) == UInt8(ascii: ".") {
            if let number = self.hosts.exact(host.extracting(index..<host.byteCount)),
                let found = self.longestMatch(host: number, path: path)
            {
                return found
            }
        }
        return nil
    }

    /// The longest prefix of the path that ends where a segment does. Prefixes without a final
    /// slash are looked up, from the longest that is in the table to the empty one, which stands
    /// for all.
    private func longestMatch(host: Int, path: RawSpan) -> Int? {
        var key = RouteKey(host: host)
        let end = min(path.byteCount, self.longestPrefix)
        for index in 0..<end { key.append(path.byte(at: index)) }
        var count = end
        while true {
            let isBoundary =
                count == path.byteCount || path.byte(at: count) == UInt8(ascii: "/")
            if isBoundary, let found = self.paths.exact(key.bytes(prefixCount: count)) {
                return found
            }
            if count == 0 { return nil }
            count -= 1
        }
    }

    // MARK: Keys

    private mutating func hostKey(_ host: [UInt8]) throws(Problem) -> [UInt8] {
        let isWildcard = host.first == UInt8(ascii: "*")
        let rest = isWildcard ? Array(host.dropFirst()) : host
        // Sound: the array outlives the call, and nothing writes to it.
        guard let name = unsafe Self.normalised(rest.span.bytes), name.count == rest.count,
            !isWildcard || (rest.count > 1 && rest[0] == UInt8(ascii: ".")),
            isWildcard || (rest.first != UInt8(ascii: ".")),
            !rest.contains(UInt8(ascii: "*"))
        else { throw .invalidHost(host) }
        if isWildcard { self.hasWildcards = true }
        return (0..<name.count).map { name.bytes.byte(at: $0) }
    }

    private static func prefixKey(_ prefix: [UInt8]?) throws(Problem) -> [UInt8] {
        guard var prefix else { return [] }
        guard prefix.first == UInt8(ascii: "/"), prefix.count <= Self.prefixBytesMax else {
            throw .invalidPrefix(prefix)
        }
        while prefix.last == UInt8(ascii: "/") { prefix.removeLast() }
        return prefix
    }

    private static func pathKey(_ host: Int) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: host >> ($0 * 8)) }
    }

    private static func hostNumber(_ key: [UInt8]) -> Int {
        (0..<4).reduce(0) { $0 | Int(key[$1]) << ($1 * 8) }
    }

    /// The host in lower case without port and final dot; nil where that is empty or too long.
    private static func normalised(_ host: RawSpan) -> NameBuffer? {
        var end = host.byteCount
        var index = end
        while index > 0, host.byte(at: index - 1) &- 0x30 < 10 { index -= 1 }
        if index > 0, host.byte(at: index - 1) == UInt8(ascii: ":") { end = index - 1 }
        if end > 0, host.byte(at: end - 1) == UInt8(ascii: ".") { end -= 1 }
        guard end > 0, end <= Self.hostBytesMax else { return nil }
        var name = NameBuffer()
        for position in 0..<end {
            let byte = host.byte(at: position)
            guard name.append(byte &- 0x41 < 26 ? byte | 0x20 : byte) else { return nil }
        }
        return name
    }

    /// The key of a path lookup, in place.
    private struct RouteKey {
        private var storage = InlineArray<1028, UInt8>(repeating: 0)
        private var count = 4

        init(host: Int) {
            for index in 0..<4 {
                self.storage[index] = UInt8(truncatingIfNeeded: host >> (index * 8))
            }
        }

        mutating func append(_ byte: UInt8) {
            self.storage[self.count] = byte
            self.count &+= 1
        }

        @_lifetime(borrow self)
        func bytes(prefixCount: Int) -> RawSpan {
            // Sound: the span borrows this value and stays within its storage, which is written.
            let span = unsafe self.storage.span.bytes.extracting(0..<(4 + prefixCount))
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }
}

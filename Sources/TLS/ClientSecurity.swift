import EventLoop

/// How one server is asked: the name that its certificate must have, and whom we trust. The same
/// for as long as the configuration says the same; its context changes when files do.
package final class ClientSecurity: Sendable, Hashable {
    /// What the certificate must be for: a host name, or an address in text.
    package let name: String
    private let current: Locked<Result<ClientContext, TLSError>>

    package init(name: String, _ context: Result<ClientContext, TLSError>) {
        self.name = name
        self.current = Locked(context)
    }

    /// Sessions begin with this from here on. A failure says why there can be none.
    package func replace(with context: Result<ClientContext, TLSError>) {
        self.current.withLock { $0 = context }
    }

    /// A session that greets the server on a descriptor that is connected.
    package func makeSession(
        descriptor: Int32,
        resumes: TLSResumption? = nil
    ) throws(TLSError) -> TLSSession {
        let context = try self.current.withLock { $0 }.get()
        return try context.makeSession(
            descriptor: descriptor,
            name: self.name,
            resumes: resumes
        )
    }

    package static func == (left: ClientSecurity, right: ClientSecurity) -> Bool {
        left === right
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(ObjectIdentifier(self))
    }
}

import Core
package final class AccessLogWriter: Sendable { package init() {} }

/// Whether a listener takes a certificate that was read anew.
///
/// Pure: times are seconds since 1970.
package enum CertificateRenewal: Equatable, Sendable {
    case take
    /// It is used although something is wrong, for there is nothing better.
    case takeWithWarning(String)
    /// The one in use stays.
    case keep(String)

    /// When a certificate holds.
    package struct Validity: Equatable, Sendable {
        package var notBefore: Int64
        package var notAfter: Int64

        package init(notBefore: Int64, notAfter: Int64) {
            self.notBefore = notBefore
            self.notAfter = notAfter
        }

        /// What is wrong with it now.
        package func problem(at now: Int64) -> String? {
            if now > self.notAfter { return "it expired \(Self.days(now - self.notAfter)) ago" }
            if now < self.notBefore {
                return "it is not valid before \(Self.days(self.notBefore - now)) from now"
            }
            return nil
        }

        private static func days(_ seconds: Int64) -> String {
            let days = seconds / 86_400
            if days == 0 { return "less than a day" }
            return days == 1 ? "1 day" : "\(days) days"
        }
    }

    /// - Parameter current: of the certificate in use, nil at the start.
    package static func decide(
        current: Validity?,
        new: Validity,
        now: Int64
    ) -> CertificateRenewal {
        guard let problem = new.problem(at: now) else { return .take }
        guard let current, current.problem(at: now) == nil else {
            return .takeWithWarning(problem)
        }
        return .keep(problem)
    }
}

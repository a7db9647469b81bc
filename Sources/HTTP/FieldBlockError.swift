/// Why the fields of an HTTP/2 message cannot be those of an HTTP message (RFC 9113, section 8), or
/// are not accepted here.
public enum FieldBlockError: Error, Equatable, Sendable, CaseIterable {
    case tooLarge, tooManyFields
    case emptyName, invalidName, invalidValue
    case unknownPseudoField, duplicatePseudoField, latePseudoField, pseudoFieldInTrailers
    case missingPseudoField
    case connectionSpecificField, invalidTE
    case invalidMethod, invalidScheme, invalidPath, invalidAuthority, missingAuthority
    case duplicateHost, hostDiffersFromAuthority
    case invalidProtocol, invalidConnect
    case invalidStatus, switchingProtocols
    case invalidContentLength, duplicateContentLength, lengthWithoutBody
    case trailersWithoutEnd
    /// The library beneath found a fault that nothing here did.
    case malformed

    /// Whether the message is well-formed, but more than is accepted: its sender deserves an
    /// answer.
    package var isExcess: Bool { self == .tooLarge || self == .tooManyFields }

    /// Stable name for metrics and logs.
    package var label: StaticString {
        switch self {
        case .tooLarge: "head-too-large"
        case .tooManyFields: "too-many-fields"
        case .emptyName: "empty-field-name"
        case .invalidName: "invalid-field-name"
        case .invalidValue: "invalid-field-value"
        case .unknownPseudoField: "unknown-pseudo-field"
        case .duplicatePseudoField: "duplicate-pseudo-field"
        case .latePseudoField: "late-pseudo-field"
        case .pseudoFieldInTrailers: "pseudo-field-in-trailers"
        case .missingPseudoField: "missing-pseudo-field"
        case .connectionSpecificField: "connection-specific-field"
        case .invalidTE: "invalid-te"
        case .invalidMethod: "invalid-method"
        case .invalidScheme: "invalid-scheme"
        case .invalidPath: "invalid-path"
        case .invalidAuthority: "invalid-authority"
        case .missingAuthority: "missing-authority"
        case .duplicateHost: "duplicate-host"
        case .hostDiffersFromAuthority: "host-differs-from-authority"
        case .invalidProtocol: "invalid-protocol"
        case .invalidConnect: "invalid-connect"
        case .invalidStatus: "invalid-status"
        case .switchingProtocols: "switching-protocols"
        case .invalidContentLength: "invalid-content-length"
        case .duplicateContentLength: "duplicate-content-length"
        case .lengthWithoutBody: "length-without-body"
        case .trailersWithoutEnd: "trailers-without-end"
        case .malformed: "malformed"
        }
    }

    /// A sentence for people.
    package var message: StaticString {
        switch self {
        case .tooLarge: "The header section is larger than allowed."
        case .tooManyFields: "There are more header fields than allowed."
        case .emptyName: "A header field has no name."
        case .invalidName: "A header field name is not a token in lower case."
        case .invalidValue:
            "A header field value has a control byte, or whitespace at one of its ends."
        case .unknownPseudoField: "There is a pseudo-header field that is not known here."
        case .duplicatePseudoField: "A pseudo-header field is there twice."
        case .latePseudoField: "A pseudo-header field comes behind a header field."
        case .pseudoFieldInTrailers: "There is a pseudo-header field among the trailers."
        case .missingPseudoField: "A pseudo-header field is missing."
        case .connectionSpecificField: "HTTP/2 has no fields that are for one connection."
        case .invalidTE: "TE says something else than trailers."
        case .invalidMethod: "The method is not a token, or longer than any that is known."
        case .invalidScheme: "The scheme is neither http nor https."
        case .invalidPath: "The path is malformed or does not suit the method."
        case .invalidAuthority: "The authority is not a host with an optional port."
        case .missingAuthority: "There is neither an authority nor a host."
        case .duplicateHost: "There is more than one Host header field."
        case .hostDiffersFromAuthority: "Host names another host than the authority."
        case .invalidProtocol: "The only protocol for an extended CONNECT is websocket."
        case .invalidConnect: "A CONNECT has a scheme or a path, or an extended one has a body."
        case .invalidStatus: "The status is not a number from 100 to 599."
        case .switchingProtocols: "HTTP/2 has no status 101."
        case .invalidContentLength: "Content-Length is not one decimal number."
        case .duplicateContentLength: "There is more than one Content-Length."
        case .lengthWithoutBody: "Content-Length announces a body, and there is none."
        case .trailersWithoutEnd: "Header fields came within the body."
        case .malformed: "The header section is malformed."
        }
    }
}

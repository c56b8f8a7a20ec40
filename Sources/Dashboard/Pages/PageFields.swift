import Mustache

/// What a template sees of a value: its fields by name.
///
/// The template engine would reflect a value anew, with all of its fields, for each name that a template mentions. Here each value is
/// reflected once.
struct PageFields: MustacheParent, CustomStringConvertible {
    private let value: Any
    private var fields: [String: Any] = [:]

    /// - Parameter value: a struct.
    init(_ value: Any) { self.init(value, Mirror(reflecting: value)) }

    private init(_ value: Any, _ mirror: Mirror) {
        self.value = value
        for child in mirror.children {
            if let name = child.label { fields[name] = Self.seen(child.value) }
        }
    }

    func child(named name: String) -> Any? { fields[name] }

    /// For values that are no models, such as a `Substring`.
    var description: String { String(describing: value) }

    /// - Returns: nil for nothing, which a template does not see.
    private static func seen(_ value: Any) -> Any? {
        switch value {
        case let text as String: return text
        case let flag as Bool: return flag
        case let number as Int: return number
        case is any MustacheCustomRenderable, is any MustacheParent: return value
        default: break
        }
        let mirror = Mirror(reflecting: value)
        return switch mirror.displayStyle {
        case .optional: mirror.children.first.flatMap { seen($0.value) }
        case .collection: mirror.children.map { seen($0.value) ?? $0.value }
        case .struct, .tuple: PageFields(value, mirror)
        default: value
        }
    }
}

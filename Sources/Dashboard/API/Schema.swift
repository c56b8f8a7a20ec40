import Foundation
import Jobs

/// JSON Schema 2020-12, as OpenAPI 3.1 uses it.
///
/// What is written here is what `/api/v1/openapi.json` says; a key is always there unless `object` is told that it may be missing.
enum Schema {
    static let text: JSONValue = ["type": "string"]
    static let integer: JSONValue = ["type": "integer"]
    static let count: JSONValue = ["type": "integer", "minimum": 0]
    static let number: JSONValue = ["type": "number"]
    static let flag: JSONValue = ["type": "boolean"]
    static let time: JSONValue = ["type": "string", "format": "date-time", "description": "ISO 8601 in UTC."]
    /// Whatever a service made of it.
    static let anything: JSONValue = [:]

    static func ref(_ name: String) -> JSONValue { ["$ref": .string("#/components/schemas/\(name)")] }

    static func one(of names: [String]) -> JSONValue { ["type": "string", "enum": .array(names.map(JSONValue.string))] }

    static func one<Value: CaseIterable & RawRepresentable>(of type: Value.Type) -> JSONValue where Value.RawValue == String {
        one(of: type.allCases.map(\.rawValue))
    }

    static func list(_ items: JSONValue) -> JSONValue { ["type": "array", "items": items] }

    static func map(_ values: JSONValue) -> JSONValue { ["type": "object", "additionalProperties": values] }

    /// That, or null.
    static func nullable(_ schema: JSONValue) -> JSONValue {
        guard var fields = schema.object, let type = fields["type"] else { return ["anyOf": [schema, ["type": "null"]]] }
        fields["type"] = [type, "null"]
        if let names = fields["enum"]?.array { fields["enum"] = .array(names + [.null]) }
        return .object(fields)
    }

    /// - Parameter optional: keys that may be missing.
    static func object(_ properties: [String: JSONValue], optional: Set<String> = [], _ description: String? = nil) -> JSONValue {
        var schema: [String: JSONValue] = [
            "type": "object", "properties": .object(properties),
            "required": .array(properties.keys.filter { !optional.contains($0) }.sorted().map(JSONValue.string)),
        ]
        if let description { schema["description"] = .string(description) }
        return .object(schema)
    }

    /// The keys of `schema` and more.
    static func extending(_ schema: JSONValue, _ properties: [String: JSONValue], without removed: Set<String> = []) -> JSONValue {
        let old = (schema["properties"]?.object ?? [:]).filter { !removed.contains($0.key) }
        return object(old.merging(properties) { _, new in new })
    }

    static func described(_ schema: JSONValue, _ description: String) -> JSONValue {
        var fields = schema.object ?? [:]
        fields["description"] = .string(description)
        return .object(fields)
    }
}

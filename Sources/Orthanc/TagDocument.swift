package import Jobs

/// The tags of one instance, as Orthanc's `/instances/{id}/tags` gives them: `{"0008,0060": {"Name", "Type", "Value", "PrivateCreator"?}}`.
package struct TagDocument: Sendable, Hashable {
    private let elements: [String: JSONValue]

    package init(_ tags: JSONValue) {
        elements = tags.object ?? [:]
    }

    /// What Orthanc calls simplified tags: values by name, sequences as arrays of the same. Of several elements with one name, the last counts.
    ///
    /// - Parameter limit: elements whose value is longer, in bytes of JSON, are left out: headers travel in messages.
    package func simplified(limit: Int = 32 << 10) -> [String: JSONValue] {
        Self.simplified(elements).filter { element in
            switch element.value {
            case .string(let text): text.utf8.count <= limit
            case .array, .object: element.value.encoded().count <= limit
            default: true
            }
        }
    }

    private static func simplified(_ elements: [String: JSONValue]) -> [String: JSONValue] {
        var result: [String: JSONValue] = [:]
        for (_, element) in elements.sorted(by: { $0.key < $1.key }) {
            guard let name = element["Name"]?.string else { continue }
            switch element["Type"]?.string {
            case "String": result[name] = element["Value"]
            case "Sequence": result[name] = .array((element["Value"]?.array ?? []).map { .object(simplified($0.object ?? [:])) })
            default: result[name] = .null
            }
        }
        return result
    }

    /// Whether this system made the instance: what it stored must not start it again, and is no image to work on.
    package var isOwnResult: Bool { hasOwnBlock || Self.namesUs(simplified()) }

    /// Whether the header says in words that this system made it.
    package static func namesUs(_ header: [String: JSONValue]) -> Bool {
        let text = { (name: String) in header[name]?.string?.trimmed }
        return text("SeriesDescription") == "dcm-processor-temp" || text("ActionSource") == "dcm-processor"
            || text("DcmProcessorStatus") == "processed"
    }

    /// Whether it has an element of our private block (0405,xx), which has no names in Orthanc's dictionary.
    package var hasOwnBlock: Bool {
        elements.contains { tag, element in
            tag.hasPrefix("0405,") && element["PrivateCreator"]?.string?.trimmed.uppercased() == "DCM-PROCESSOR"
        }
    }
}

extension String {
    /// Without the spaces and NULs that DICOM pads values with.
    package var trimmed: String {
        let isPadding: (Character) -> Bool = { $0 == " " || $0 == "\0" }
        return String(drop(while: isPadding).reversed().drop(while: isPadding).reversed())
    }
}

/// Orthanc's name of a patient, study, series or instance: five groups of eight hexadecimal digits. Never a DICOM UID.
///
/// Only such a text becomes part of a URL or of a file's path.
package struct OrthancID: Sendable, Hashable, RawRepresentable, Comparable, CustomStringConvertible {
    package let rawValue: String

    /// - Returns: nil unless `rawValue` has the form of Orthanc's identifiers.
    package init?(rawValue: String) {
        let bytes = rawValue.utf8
        guard bytes.count == 44,
            bytes.enumerated().allSatisfy({ index, byte in
                index % 9 == 8 ? byte == 0x2d : (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
            })
        else { return nil }
        self.rawValue = rawValue
    }

    package static func < (left: OrthancID, right: OrthancID) -> Bool { left.rawValue < right.rawValue }
    package var description: String { rawValue }
}

extension OrthancID: Codable {}

import Foundation
import Jobs
import Orthanc

/// Decides by its header whether a series goes further. The rules and their variables are upstream's; a rule without its variable is off.
struct IngestFilter: Sendable, Hashable {
    /// SUPPORTED_MODALITY: one of these must be part of the modality.
    var modalities: [String] = []
    /// ACCEPTED_FILES: one of these must be part of the image type.
    var acceptedTypes: [String] = []
    /// JUNK_FILES: none of these may be part of the image type.
    var junkTypes: [String] = []
    /// INSTANCE_REQUIRED_TAGS: present, orientation and position complete, and neither LOCALIZER nor OTHER in the image type.
    var requiredTags: [String] = []
    /// MINIMUM_INSTANCES.
    var minimumInstances = 0

    /// Another for each configuration.
    var fingerprint: String {
        let lists = [modalities, acceptedTypes, junkTypes, requiredTags].map { $0.sorted().map(JSONValue.string) }.map(JSONValue.array)
        let text = JSONValue.array(lists + [.string("\(minimumInstances)")]).encoded()
        return String(ContentDigest.hexadecimal(.sha256, of: Data(text)).prefix(16))
    }

    /// - Parameters:
    ///   - header: of one instance, by tag name, file-meta included.
    ///   - instances: how many the series has.
    /// - Returns: why the series is refused; nil when it is accepted. Texts show nothing of the header but well-formed modalities.
    func refusal(of header: [String: JSONValue], instances: Int) -> Reason? {
        if TagDocument.namesUs(header) { return Self.ownResult }
        if instances < minimumInstances {
            return Reason(
                "too-few-instances",
                "The series has \(instances) instances, fewer than the \(minimumInstances) that MINIMUM_INSTANCES asks for.")
        }
        return modalityRefusal(header) ?? imageTypeRefusal(header) ?? instanceRefusal(header)
    }

    static let ownResult = Reason("own-result", "The series is a result of this system, which must not start it again.")

    private func modalityRefusal(_ header: [String: JSONValue]) -> Reason? {
        guard !modalities.isEmpty else { return nil }
        let allowed = modalities.joined(separator: ", ")
        guard let modality = header["Modality"]?.string?.trimmed, !modality.isEmpty else {
            return Reason("modality", "The series has no modality; SUPPORTED_MODALITY asks for \(allowed).")
        }
        guard !modalities.contains(where: { modality.contains(caseInsensitive: $0) }) else { return nil }
        let isWellFormed =
            modality.utf8.count <= 16 && modality.utf8.allSatisfy { (0x41...0x5a).contains($0) || (0x30...0x39).contains($0) }
        let shown = isWellFormed ? modality : "something else"
        return Reason("modality", "The modality is \(shown); SUPPORTED_MODALITY asks for \(allowed).")
    }

    private func imageTypeRefusal(_ header: [String: JSONValue]) -> Reason? {
        let type = imageType(header)
        if !acceptedTypes.isEmpty, !acceptedTypes.contains(where: { type.contains(caseInsensitive: $0) }) {
            return Reason("image-type", "The image type is none of ACCEPTED_FILES: \(acceptedTypes.joined(separator: ", ")).")
        }
        if let junk = junkTypes.first(where: { type.contains(caseInsensitive: $0) }) {
            return Reason("junk", "The image type contains '\(junk)', which JUNK_FILES refuses.")
        }
        return nil
    }

    private func instanceRefusal(_ header: [String: JSONValue]) -> Reason? {
        guard !requiredTags.isEmpty, !isPhilipsMultiframe(header) else { return nil }
        if let missing = requiredTags.first(where: { header[$0] == nil }) {
            return Reason("missing-tag", "The tag \(missing) is missing; INSTANCE_REQUIRED_TAGS asks for it.")
        }
        for (tag, count) in [("ImageOrientationPatient", 6), ("ImagePositionPatient", 3)] where requiredTags.contains(tag) {
            let values = header[tag]?.string?.split(separator: "\\", omittingEmptySubsequences: false).count ?? 0
            if values < count {
                return Reason("incomplete-tag", "The tag \(tag) has \(values) values instead of \(count).")
            }
        }
        if let kind = ["LOCALIZER", "OTHER"].first(where: { imageType(header).contains(caseInsensitive: $0) }) {
            return Reason("localizer", "The image type contains \(kind): not an image to work on.")
        }
        return nil
    }

    private func imageType(_ header: [String: JSONValue]) -> String {
        (header["ImageType"]?.string ?? "").split(separator: "\\").map { String($0).trimmed }.joined(separator: ",")
    }

    /// Philips writes one multi-frame instance, whose geometry stands in its functional groups.
    private func isPhilipsMultiframe(_ header: [String: JSONValue]) -> Bool {
        guard header["Manufacturer"]?.string?.trimmed.lowercased() == "philips" else { return false }
        let multiframe: Set = [
            "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1",
        ]
        let sopClass = (header["MediaStorageSOPClassUID"] ?? header["SOPClassUID"])?.string?.trimmed ?? ""
        return multiframe.contains(sopClass) || header["SharedFunctionalGroupsSequence"] != nil
            || header["PerFrameFunctionalGroupsSequence"] != nil
    }
}

extension String {
    fileprivate func contains(caseInsensitive part: String) -> Bool {
        lowercased().contains(part.lowercased())
    }
}

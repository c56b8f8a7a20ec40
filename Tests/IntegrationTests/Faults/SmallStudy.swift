import Foundation
import Jobs
import Stack
import Testing

/// A study of one image of a few hundred bytes: the least that a run's export can fetch.
struct SmallStudy {
    /// Orthanc's ids.
    let id: String
    let series: String

    static func upload(to orthanc: PrivateOrthanc) async throws -> SmallStudy {
        let stored = try await orthanc.ask("POST", "/instances", body: SmallImage(study: "1.2.3").file, contentType: "application/dicom")
        return SmallStudy(id: try #require(stored["ParentStudy"]?.string), series: try #require(stored["ParentSeries"]?.string))
    }
}

/// An image without pixels.
struct SmallImage: Sendable {
    /// UID, as the other names are parts of one.
    var study: String
    var patient = "1"
    var series = "1"
    var instance = "1"
    var description = ""

    /// A DICOM file in little endian with explicit types.
    var file: Data {
        let kind = "1.2.840.10008.5.1.4.1.1.2"
        let seriesUID = "\(study).\(series)"
        let uid = "\(seriesUID).\(instance)"
        let meta =
            Self.element(2, 0x02, "UI", kind) + Self.element(2, 0x03, "UI", uid) + Self.element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
        let dataset =
            Self.element(8, 0x16, "UI", kind) + Self.element(8, 0x18, "UI", uid) + Self.element(8, 0x60, "CS", "CT")
            + Self.element(8, 0x1030, "LO", description) + Self.element(0x10, 0x20, "LO", "P\(patient)")
            + Self.element(0x20, 0x0d, "UI", study) + Self.element(0x20, 0x0e, "UI", seriesUID)
        let length = Self.bytes(UInt16(2)) + Self.bytes(UInt16(0)) + Data("UL".utf8) + Self.bytes(UInt16(4))
        return Data(count: 128) + Data("DICM".utf8) + length + Self.bytes(UInt32(meta.count)) + meta + dataset
    }

    private static func element(_ group: UInt16, _ element: UInt16, _ type: String, _ value: String) -> Data {
        var text = Data(value.utf8)
        if text.count % 2 == 1 { text.append(type == "UI" ? 0 : 0x20) }
        return bytes(group) + bytes(element) + Data(type.utf8) + bytes(UInt16(text.count)) + text
    }

    private static func bytes(_ number: some FixedWidthInteger) -> Data {
        withUnsafeBytes(of: number.littleEndian) { Data($0) }
    }
}

extension PrivateOrthanc {
    /// Asks its REST API.
    @discardableResult
    func ask(
        _ method: String = "GET", _ path: String, body: Data? = nil, contentType: String = "application/json"
    ) async throws -> JSONValue {
        let url = try #require(URL(string: self.url + path))
        let answer = try await LoopbackHTTP.request(
            method, url, credentials: .basic(user: user, password: password), body: body, contentType: contentType, limit: .seconds(20))
        guard answer.status == 200 else {
            throw TestFailure("\(method) \(path): status \(answer.status): \(String(decoding: answer.body, as: UTF8.self))")
        }
        return answer.body.isEmpty ? .null : try JSONValue(json: answer.body)
    }
}

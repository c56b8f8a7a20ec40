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
        let url = try #require(URL(string: orthanc.url + "/instances"))
        let answer = try await LoopbackHTTP.request(
            "POST", url, credentials: .basic(user: orthanc.user, password: orthanc.password), body: image,
            contentType: "application/dicom")
        let stored = try JSONValue(json: answer.body)
        return SmallStudy(id: try #require(stored["ParentStudy"]?.string), series: try #require(stored["ParentSeries"]?.string))
    }

    /// A DICOM file without pixels, in little endian with explicit types.
    private static var image: Data {
        let raw = "1.2.840.10008.5.1.4.1.1.66"
        let meta = element(2, 0x02, "UI", raw) + element(2, 0x03, "UI", "1.2.3.4") + element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
        let dataset =
            element(8, 0x16, "UI", raw) + element(8, 0x18, "UI", "1.2.3.4") + element(8, 0x60, "CS", "OT")
            + element(0x10, 0x20, "LO", "P1") + element(0x20, 0x0d, "UI", "1.2.3") + element(0x20, 0x0e, "UI", "1.2.3.1")
        let length = bytes(UInt16(2)) + bytes(UInt16(0)) + Data("UL".utf8) + bytes(UInt16(4)) + bytes(UInt32(meta.count))
        return Data(count: 128) + Data("DICM".utf8) + length + meta + dataset
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

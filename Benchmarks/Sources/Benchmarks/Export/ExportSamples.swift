import Foundation
import Stack

/// A series of noise: square images of 16 bits, all of one size.
struct ExportSamples {
    let instances: Int
    let edge: Int

    /// - Returns: Orthanc's id of the series.
    func store(in orthanc: PrivateOrthanc) async throws -> String {
        var series: String?
        for number in 1...instances {
            let answer = try await LoopbackHTTP.request(
                "POST", URL(string: "\(orthanc.url)/instances")!,
                credentials: .basic(user: orthanc.user, password: orthanc.password), body: image(number), limit: .seconds(30))
            let reply = try JSONSerialization.jsonObject(with: answer.body) as? [String: Any]
            series = reply?["ParentSeries"] as? String
        }
        guard let series else { throw BenchmarkError("Orthanc does not take the images.") }
        return series
    }

    /// Explicit VR, little endian.
    private func image(_ number: Int) -> Data {
        let root = "1.2.826.0.1.3680043.10.1338.\(instances)"
        var meta = Data()
        meta += element(2, 2, "UI", "1.2.840.10008.5.1.4.1.1.2")
        meta += element(2, 3, "UI", "\(root).3.\(number)")
        meta += element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
        var file = Data(count: 128) + Data("DICM".utf8)
        file += element(2, 0, "UL", bytes(UInt32(meta.count))) + meta
        file += element(8, 0x16, "UI", "1.2.840.10008.5.1.4.1.1.2") + element(8, 0x18, "UI", "\(root).3.\(number)")
        file += element(8, 0x60, "CS", "CT")
        file += element(0x10, 0x20, "LO", "BENCH-\(instances)")
        file += element(0x20, 0xd, "UI", "\(root).1") + element(0x20, 0xe, "UI", "\(root).2") + element(0x20, 0x13, "IS", "\(number)")
        for (tag, value) in [(2, 1), (0x10, edge), (0x11, edge), (0x100, 16), (0x101, 16), (0x102, 15), (0x103, 0)] {
            file += element(0x28, UInt16(tag), "US", bytes(UInt16(value)))
            if tag == 2 { file += element(0x28, 4, "CS", "MONOCHROME2") }
        }
        var pixels = Data(count: edge * edge * 2)
        var state = UInt64(number) &* 0x9e37_79b9_7f4a_7c15
        pixels.withUnsafeMutableBytes { raw in
            let words = raw.bindMemory(to: UInt64.self)
            for index in words.indices {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                words[index] = state
            }
        }
        file += bytes(UInt16(0x7fe0)) + bytes(UInt16(0x10)) + Data("OW".utf8) + Data(count: 2) + bytes(UInt32(pixels.count)) + pixels
        return file
    }

    private func element(_ group: UInt16, _ tag: UInt16, _ kind: String, _ text: String) -> Data {
        var value = Data(text.utf8)
        if value.count % 2 == 1 { value.append(kind == "UI" ? 0 : 0x20) }
        return element(group, tag, kind, value)
    }

    private func element(_ group: UInt16, _ tag: UInt16, _ kind: String, _ value: Data) -> Data {
        bytes(group) + bytes(tag) + Data(kind.utf8) + bytes(UInt16(value.count)) + value
    }

    private func bytes<Number: FixedWidthInteger>(_ number: Number) -> Data {
        withUnsafeBytes(of: number.littleEndian) { Data($0) }
    }
}

package import Foundation

/// The ports of a stack: chosen once among the free ones, kept in DIR/ports.json over restarts.
package struct StackPorts: Codable, Sendable, Equatable {
    package var amqp: UInt16
    package var brokerDistribution: UInt16
    package var epmd: UInt16
    package var management: UInt16
    package var prometheus: UInt16
    package var orthanc: UInt16
    package var dicom: UInt16
    package var monitor: UInt16
    package var ingest: UInt16

    private struct Use: Sendable {
        let title: String
        let setting: String?
        let path: any (WritableKeyPath<StackPorts, UInt16> & Sendable)
    }

    private static let uses: [Use] = [
        Use(title: "RabbitMQ", setting: "RABBITMQ_PORT", path: \.amqp),
        Use(title: "RabbitMQ's node distribution", setting: nil, path: \.brokerDistribution),
        Use(title: "Erlang's port mapper", setting: nil, path: \.epmd),
        Use(title: "RabbitMQ's management", setting: "RABBITMQ_MANAGEMENT_PORT", path: \.management),
        Use(title: "RabbitMQ's metrics", setting: nil, path: \.prometheus),
        Use(title: "Orthanc's HTTP", setting: "ORTHANC_HTTP_PORT", path: \.orthanc),
        Use(title: "Orthanc's DICOM", setting: "ORTHANC_DICOM_PORT", path: \.dicom),
        Use(title: "the monitor", setting: "MONITOR_PORT", path: \.monitor),
        Use(title: "ingest's endpoint", setting: "INGEST_PORT", path: \.ingest),
    ]

    private static let none = StackPorts(
        amqp: 0,
        brokerDistribution: 0,
        epmd: 0,
        management: 0,
        prometheus: 0,
        orthanc: 0,
        dicom: 0,
        monitor: 0,
        ingest: 0,
    )

    /// A file of an older version lacks what is new since.
    private static func read(_ data: Data) -> StackPorts? {
        guard let ports = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any],
            let standard = try? JSONSerialization.jsonObject(with: JSONEncoder().encode(none)) as? [String: Any],
            let whole = try? JSONSerialization.data(withJSONObject: standard.merging(ports) { $1 })
        else { return nil }
        return try? JSONDecoder().decode(StackPorts.self, from: whole)
    }

    /// Reads the kept ports, replaces those that somebody else took meanwhile, and writes the file again.
    ///
    /// - Returns: the ports, and a sentence for each one that had to move.
    /// - Throws: ``StackError`` `.portTaken` when a port that a setting asks for is not free.
    package static func resolve(_ file: URL, settings: StackSettings) throws -> (ports: StackPorts, notes: [String]) {
        let kept = (try? Data(contentsOf: file)).flatMap(read)
        var ports = kept ?? none
        var notes: [String] = []
        for use in uses {
            let old = ports[keyPath: use.path]
            if let setting = use.setting, let wanted = try settings.integer(setting, in: 1...65_535) {
                guard FreePorts.isFree(UInt16(wanted)) else {
                    throw StackError(
                        .portTaken,
                        "\(setting) asks for port \(wanted) for \(use.title), but another program listens on it. "
                            + "Stop that program, set another port, or unset \(setting) to get a free one.",
                    )
                }
                ports[keyPath: use.path] = UInt16(wanted)
            } else if old == 0 {
                ports[keyPath: use.path] = try FreePorts.next()
            } else if !FreePorts.isFree(old) {
                ports[keyPath: use.path] = try FreePorts.next()
                notes.append("Port \(old) is used by another program now: \(use.title) moved to port \(ports[keyPath: use.path]).")
            }
        }
        if ports != kept {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try FileSystem.write(try encoder.encode(ports), to: file)
        }
        return (ports, notes)
    }
}

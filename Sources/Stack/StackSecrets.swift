/// The passwords and tokens of a stack.
package struct StackSecrets: Sendable {
    package let brokerUser: String
    package let brokerPassword: String
    package let erlangCookie: String
    package let orthancUser: String
    package let orthancPassword: String
    package let monitorToken: String
    package let ingestToken: String

    /// Adds what is missing to DIR/.env, mode 600. To be called before the settings are read, so that the generated values
    /// have the rank of the file they are in.
    package static func generateMissing(in home: StackHome) throws {
        let present = try EnvironmentFile.read(home.environmentFile)
        let wanted: [(name: String, value: String)] = [
            ("RABBITMQ_USER", "dcm"),
            ("RABBITMQ_PASSWORD", Secret.generate()),
            ("RABBITMQ_COOKIE", Secret.generate()),
            ("ORTHANC_REST_USERNAME", "dcm"),
            ("ORTHANC_REST_PASSWORD", Secret.generate()),
            ("MONITOR_TOKEN", Secret.generate(length: 40)),
            ("INGEST_TOKEN", Secret.generate(length: 40)),
        ]
        try EnvironmentFile.append(
            wanted.filter { present[$0.name, default: ""].isEmpty },
            to: home.environmentFile,
            heading: "Generated at the first start. Keep this file private.",
        )
    }

    package init(_ settings: StackSettings) {
        brokerUser = settings["RABBITMQ_USER"] ?? ""
        brokerPassword = settings["RABBITMQ_PASSWORD"] ?? ""
        erlangCookie = settings["RABBITMQ_COOKIE"] ?? ""
        orthancUser = settings["ORTHANC_REST_USERNAME"] ?? ""
        orthancPassword = settings["ORTHANC_REST_PASSWORD"] ?? ""
        monitorToken = settings["MONITOR_TOKEN"] ?? ""
        ingestToken = settings["INGEST_TOKEN"] ?? ""
    }
}

import ArgumentParser
import Foundation
import Stack

struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Starts a stack, or adds what is missing in one that runs; returns when all is ready.",
        discussion: """
            Broker, Orthanc, ledger, data, logs, registry and modules are all under the folder of the stack. Settings come from
            the environment, over DIR/.env, over the checkout's .env. DIR/endpoints.json tells programs where everything is.
            """,
    )

    @OptionGroup var options: StackOptions

    func run() async throws {
        let endpoints = try await options.start()
        say(endpoints.summary(home: options.home))
    }
}

extension Endpoints {
    func summary(home: StackHome) -> String {
        """

        Monitor    \(signIn())   (\(Self.tokenHint(home)))
        Ingest     \(ingest ?? "-")   (hooks and ./dcm submit; token: ingestToken there)
        Orthanc    \(orthanc)   user \(orthancUser)
        DICOM      127.0.0.1:\(orthancDicomPort), AET ORTHANC
        RabbitMQ   \(rabbitmqManagement)   user and password as in the amqp URL there
        Services   \(registry) and \(modules)
        Logs       \(logs)
        """
    }

    /// Where the monitor's token is kept.
    static func tokenHint(_ home: StackHome) -> String { "token: monitorToken in \(home.endpointsFile.path)" }

    /// Somebody at a terminal gets a link that signs in; a log gets no secret.
    func signIn() -> String { isatty(STDOUT_FILENO) == 1 ? signInLink : "\(monitor)/sign-in" }
}

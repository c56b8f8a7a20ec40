import Foundation
import Registry
import Stack
import Workbench

/// Services and a bench for one test, removed with it.
final class TrialPlace: Sendable {
    let folder: URL
    let bench: Bench

    /// - Parameter files: below the folder: `registry/a/settings.json`, `modules/a/__init__.py`.
    init(_ files: [String: String], importLimit: Duration = .seconds(30)) throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "dcm-workbench-\(UUID().uuidString)", directoryHint: .isDirectory)
        for (path, text) in ["registry/settings.json": "{}"].merging(files, uniquingKeysWith: { _, own in own }) {
            let file = folder.appending(path: path)
            try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        try FileManager.default.createDirectory(at: folder.appending(path: "modules"), withIntermediateDirectories: true)
        let python = ProcessInfo.processInfo.environment["PYTHON"] ?? "/usr/bin/python3"
        bench = Bench(
            registry: folder.appending(path: "registry"), modules: folder.appending(path: "modules"), python: python, library: Self.library,
            variables: [
                "PATH": "/usr/bin:/bin", "AMQP_URL": "amqp://secret@nowhere", "ORTHANC_REST_URL": "http://nowhere", "MONITOR_TOKEN": "x",
            ],
            environments: folder.appending(path: "environments"), folder: folder.appending(path: "bench"), importLimit: importLimit)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    var catalog: ServiceCatalog { ServiceCatalog.load(registry: bench.registry, settings: bench.registry.appending(path: "settings.json")) }

    /// The checkout that holds this file (and not the folder that a symlink to it stands in).
    static let checkout = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let library = checkout.appending(path: "python")

    /// Writes images by pydicom: `[(file, tags)]`.
    func images(_ script: String) async throws -> URL {
        let images = folder.appending(path: "images", directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: images, withIntermediateDirectories: true)
        let file = folder.appending(path: "images.py")
        try Data((Self.writer + script).utf8).write(to: file)
        let log = folder.appending(path: "images.log")
        let process = try ManagedProcess(
            Command(
                name: "images.py", executable: bench.python, arguments: [file.path, images.path], environment: Command.plainEnvironment,
                logFile: log))
        let failure = StackError(.timedOut, "images.py did not end", logFile: log)
        _ = try await poll(for: .seconds(60), orThrow: failure) { process.exit }
        return images
    }

    private static let writer = """
        import os, sys
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        def image(name, study="1.2.3", series="1.2.3.1", number=1, **tags):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            path = os.path.join(sys.argv[1], name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            data = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
            data.is_little_endian, data.is_implicit_VR = True, False
            data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            data.PatientID, data.PatientName = "4711", "Doe^Jane"
            data.StudyInstanceUID, data.SeriesInstanceUID, data.InstanceNumber = study, series, number
            for key, value in tags.items():
                setattr(data, key, value)
            data.save_as(path, write_like_original=False)


        """
}

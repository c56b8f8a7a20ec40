import Foundation
import Jobs
import Pipeline

/// The files that a command leaves in the folder `outputs` of its scratch folder: kept under DATA when it succeeded.
///
/// They appear in one step, whole, in the place of what an earlier attempt had left there.
struct CommandOutputs: Sendable {
    struct Kept: Sendable, Equatable {
        /// Relative to DATA.
        var path: String
        /// Relative to DATA, sorted; not more than people look at.
        var files: [String]
        var count: Int
        var bytes: Int64
    }

    /// Why they could not be kept.
    struct Refusal: Error, CustomStringConvertible {
        var description: String
        /// Nothing is wrong but that somebody else may have the job by now.
        var isLeaseOver = false
    }

    let data: URL

    static let folder = "outputs"
    private static let mostNames = 100

    /// The folder of all outputs of a run, relative to DATA.
    static func path(of run: RunID) -> String { "\(folder)/\(run)" }

    static func path(of order: JobOrder) -> String {
        "\(path(of: order.job.run))/\(name(order.definition.name, index: order.job.index))"
    }

    /// A job's name may hold what a folder's name must not.
    static func name(_ job: String, index: Int) -> String {
        let isPlain: (UInt8) -> Bool = { byte in
            let character = Character(UnicodeScalar(byte))
            return byte < 0x80 && (character.isLetter || character.isNumber || "-_.".contains(character))
        }
        if job.utf8.count <= 100, job.utf8.allSatisfy(isPlain), !job.hasPrefix(".") { return job }
        // `~` is no plain character, so that no other job has that name.
        return String(decoding: job.utf8.prefix(80).filter(isPlain).drop { $0 == UInt8(ascii: ".") }, as: UTF8.self) + "~\(index)"
    }

    /// Moves what is in `workdir`. Blocking. What an earlier attempt had left goes to `workdir`, whose owner removes it.
    /// - Parameter isStillMine: asked last, because looking through many files may take longer than a lease lasts.
    /// - Returns: nil when the command left nothing.
    func keep(from workdir: URL, as path: String, isStillMine: () -> Bool = { true }) throws(Refusal) -> Kept? {
        let manager = FileManager.default
        let source = workdir.appending(path: Self.folder)
        let target = data.appending(path: path)
        let type = (try? manager.attributesOfItem(atPath: source.path))?[.type] as? FileAttributeType
        guard type == nil || type == .typeDirectory else {
            throw Refusal(description: "the command has put something else in the place of its folder \(Self.folder) (DCM_OUTPUTS)")
        }
        let found = type == nil ? [] : files(below: source)
        guard isStillMine() else { throw Refusal(description: "the job's lease is over", isLeaseOver: true) }
        do {
            let aside = workdir.appending(path: ".former-outputs")
            let hasFormer = (try? manager.attributesOfItem(atPath: target.path)) != nil
            if hasFormer { try Self.rename(target, aside) }
            guard !found.isEmpty else { return nil }
            do {
                try manager.createDirectory(at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
                try Self.rename(source, target)
            } catch {
                if hasFormer { try? Self.rename(aside, target) }
                throw error
            }
        } catch {
            let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
            throw Refusal(
                description: "\(path) below DATA could not be written (\(cause?.localizedDescription ?? "\(error)")): check that the "
                    + "worker may write there and that there is room")
        }
        return Kept(
            path: path, files: found.prefix(Self.mostNames).map { "\(path)/\($0.name)" }, count: found.count,
            bytes: found.reduce(0) { $0 + $1.bytes })
    }

    /// Regular files, relative to `folder`, sorted. Links are not followed.
    private func files(below folder: URL) -> [(name: String, bytes: Int64)] {
        var found: [(name: String, bytes: Int64)] = []
        guard let all = FileManager.default.enumerator(atPath: folder.path) else { return [] }
        while let name = all.nextObject() as? String {
            guard let attributes = all.fileAttributes, attributes[.type] as? FileAttributeType == .typeRegular else { continue }
            found.append((name, (attributes[.size] as? NSNumber)?.int64Value ?? 0))
        }
        return found.sorted { $0.name < $1.name }
    }

    private static func rename(_ source: URL, _ target: URL) throws {
        guard Foundation.rename(source.path, target.path) == 0 else { throw Refusal(description: String(cString: strerror(errno))) }
    }
}

extension JobExit {
    /// The same with what the command left behind.
    func keeping(_ kept: CommandOutputs.Kept) -> JobExit {
        var exit = self
        exit.result = [
            "stdout": result ?? .null,
            "outputs": ["path": .string(kept.path), "files": .integer(Int64(kept.count)), "bytes": .integer(kept.bytes)],
        ]
        exit.artifacts += kept.files.map { path in
            Artifact(name: String(path.dropFirst(kept.path.count + 1)), path: path, kind: Self.kind(of: path))
        }
        return exit
    }

    private static func kind(of path: String) -> String {
        let name = path.lowercased()
        return kinds.first { name.hasSuffix($0.key) }?.value ?? "file"
    }

    private static let kinds = [
        ".png": "image", ".jpg": "image", ".jpeg": "image", ".gif": "image", ".svg": "image", ".pdf": "pdf", ".nii": "nifti",
        ".nii.gz": "nifti", ".dcm": "dicom", ".html": "html", ".txt": "text", ".csv": "text", ".json": "text", ".log": "text",
    ]
}

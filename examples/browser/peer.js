// The connection to one device that is in a call: what is said and seen, each frame through the worker. The descriptions that set it up are
// signals of the crate.

const STREAMS = { audio: 0, video: 1 };

export class Peer {
    // `isFirst`: of two devices one makes the offer. `say(kind, body)` sends a signal; `changed()` draws.
    constructor({ name, place, instance, isFirst, worker, mine, say, changed }) {
        Object.assign(this, { name, place, instance, worker, say, changed });
        this.seen = new MediaStream();
        this.candidates = [];
        this.early = [];
        this.work = Promise.resolve();
        // An app names its TURN servers here: people at home cannot reach each other without.
        const connection = (this.connection = new RTCPeerConnection());
        connection.onicecandidate = ({ candidate }) => {
            if (!candidate?.candidate) return;
            this.candidates.push(candidate.toJSON());
            changed();
        };
        connection.onconnectionstatechange = () => {
            changed();
            // The network is another one.
            if (connection.connectionState !== "failed" || !isFirst) return;
            connection.restartIce();
            this.then(() => this.describe());
        };
        // In the turn in which they are made: Chromium lets frames go past a transform that comes later.
        for (const track of mine.getTracks()) {
            connection.addTrack(track, mine);
            const { sender, receiver } = connection.getTransceivers().at(-1);
            const stream = STREAMS[track.kind];
            sender.transform = new RTCRtpScriptTransform(worker, { stream });
            receiver.transform = new RTCRtpScriptTransform(worker, { from: name, stream });
        }
        connection.ontrack = ({ track, receiver }) => {
            // Nothing is played that does not come through the worker.
            if (!receiver.transform) return track.stop();
            this.seen.addTrack(track);
            changed();
        };
        this.prefer();
        if (isFirst) this.then(() => this.describe());
    }

    // The worker knows how many bytes of a frame of VP8 the browser reads; of another codec it does not.
    prefer() {
        const { codecs } = RTCRtpReceiver.getCapabilities("video");
        const known = codecs.filter(({ mimeType }) => /^video\/(VP8|rtx)$/i.test(mimeType));
        for (const transceiver of this.connection.getTransceivers()) {
            if (transceiver.receiver.track.kind === "video") transceiver.setCodecPreferences(known);
        }
    }

    async describe() {
        await this.connection.setLocalDescription();
        this.say("Answer", { description: this.connection.localDescription });
    }

    // What the other device says, in its order.
    hear({ description, candidates }) {
        this.then(async () => {
            const { connection } = this;
            if (description) {
                await connection.setRemoteDescription(description);
                this.prefer();
                if (description.type === "offer") await this.describe();
            }
            this.early.push(...(candidates ?? []));
            if (connection.remoteDescription) for (const candidate of this.early.splice(0)) await connection.addIceCandidate(candidate);
        });
    }

    // The candidates that were found since the last time.
    takeCandidates() {
        return this.candidates.splice(0);
    }

    // A description that makes no sense is the other side's affair: then there is no picture of it.
    then(work) {
        this.work = this.work.then(work).catch((error) => this.connection.signalingState === "closed" || console.warn(`${this.name}: ${error.message}`));
    }

    // What came, for the tile: how much, and how much of it opened.
    async measure() {
        const found = { packets: 0, decoded: 0, sounds: 0, energy: 0 };
        for (const entry of (await this.connection.getStats()).values()) {
            if (entry.type !== "inbound-rtp") continue;
            if (entry.kind === "video") Object.assign(found, { packets: entry.packetsReceived, decoded: entry.framesDecoded ?? 0 });
            else Object.assign(found, { sounds: entry.packetsReceived, energy: entry.totalAudioEnergy ?? 0 });
        }
        return found;
    }

    close() {
        this.connection.close();
    }
}
